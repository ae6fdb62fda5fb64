"""From a config file to an approved study: reading with line numbers, checking, and the words for a mistake."""
