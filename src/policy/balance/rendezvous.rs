//! The same successor for the same client on every worker, node and after every restart.
