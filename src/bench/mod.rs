//! `linerate bench`: the matrix, its interleaving, the runner, the server and the statistics.
