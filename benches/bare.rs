//! What HTTP alone costs: takes a body in, and answers with a text that it was started with. `benches/run` puts it
//! beside the service.
use actix_web::{App, HttpResponse, HttpServer, http::header::ContentType, web};
use std::{env, io};

#[actix_web::main]
async fn main() -> io::Result<()> {
    let mut arguments = env::args().skip(1);
    let (Some(address), Some(answer)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: bare ADDRESS ANSWER"));
    };
    let answer = web::Bytes::from(answer);
    let app = move || {
        let answer = answer.clone();
        let handler = move |_: web::Bytes| {
            let answer = answer.clone();
            async move { HttpResponse::Ok().content_type(ContentType::json()).body(answer) }
        };
        App::new().default_service(web::to(handler))
    };
    HttpServer::new(app).bind(address)?.run().await
}
