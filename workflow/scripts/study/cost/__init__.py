"""What a study will take: counted work times measured rates, resources of jobs, and the time that is left."""
