"""What a person sees while a study runs: progress records, the bar, failed jobs in words, and stopping in good order."""
