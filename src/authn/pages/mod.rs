//! Plain pages: sign-in, and who is signed in. They work without scripts.
mod http;
mod model;

pub use http::{PAGES, page_routes};
pub use model::{html, html_telling, same_origin};
