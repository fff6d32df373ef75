"""Taking out of a file what runs, and writing the mail with what is left. Opens nothing; C code only in workers."""
