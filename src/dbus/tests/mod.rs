//! Tests of the front end: its files against its tables, and a server in this process.

mod documents;
mod domains;
mod lab;
mod server;
