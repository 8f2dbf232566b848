//! `/v1/revocations`: what gateways must drop of the answers that they keep, and offline verifiers of the tokens that they
//! believe.
//!
//! **Invariant:** an answer made at a revision that is not lower than the one that was heard of, about a thing that was not
//! named since, is still right. A receiver may drop too much, and never too little.
//! **Invariant:** a stream holds nothing for its reader: it reads where it stopped when the reader takes more.
mod error;
mod http;
mod service;

pub(super) use http::routes;
