//! Publishing: a TUF repository and its channels.
