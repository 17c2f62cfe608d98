"""One runnable module for each claim of the chapter, and what these modules share: data, plots, command lines."""
