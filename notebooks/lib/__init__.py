"""Code of single notebooks: a file for each that is more than an article, and what they share."""
