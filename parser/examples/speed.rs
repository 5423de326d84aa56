//! How long 100,000 directives take (<https://nginx.org/en/docs/beginners_guide.html#conf_structure>):
//! `cargo run --release -p nginx-rs-parser --example speed`.

use std::hint::black_box;
use std::time::Instant;

const SERVER: &str = r#"server {
    listen 127.0.0.1:8080; # one of many
    server_name a.example.org "b.example.org";
    location ~ \.(png|jpg)$ {
        add_header Cache-Control "public, max-age=\"3600\"";
        proxy_set_header X-Forwarded-For ${proxy_add_x_forwarded_for};
        proxy_pass http://django$request_uri;
        proxy_read_timeout 60s;
        proxy_buffers 8 16k;
        return 200;
    }
}
"#;
const ROUNDS: u32 = 10;

fn main() {
    let text = SERVER.repeat(10_000);
    let start = Instant::now();
    for _ in 0..ROUNDS {
        black_box(parser::parse(parser::ast::FileId(0), black_box(text.as_bytes())));
    }
    let took = start.elapsed() / ROUNDS;
    let (directives, bytes) = (10 * 10_000, text.len());
    println!("{directives} directives in {bytes} bytes: {took:.1?}");
}
