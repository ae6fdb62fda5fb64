"""Cells of the user's own in a study: what the config says of them, their files, and their import inside jobs.

Only jobs import a user's file. Whoever plans a study reads it as text.
"""
