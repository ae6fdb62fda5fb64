"""What the page says and shows: measures, findings, sentences, and the drawing that all figures share."""
