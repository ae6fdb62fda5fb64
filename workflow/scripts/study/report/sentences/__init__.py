"""What the page says of a study, a sentence a finding; each number in it carries its address."""
