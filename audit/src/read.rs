//! Reads a log from its files, beside or without a running daemon.
