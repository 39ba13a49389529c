//! TLS seen from outside and, where policy asks for it, from inside.

mod fields;
mod hello;
mod ja4;
