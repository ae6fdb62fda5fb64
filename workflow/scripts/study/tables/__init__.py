"""The Parquet tables: their columns, reading and writing, and putting blocks together in bounded memory."""
