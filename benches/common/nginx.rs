//! nginx as the benches run it: one process, so that none is left when it is killed, and sendfile on.

/// The only suite that it takes, and that its clients are told to offer.
pub const CIPHER: &str = "TLS_AES_128_GCM_SHA256";

/// Certificate and key, in PEM.
pub struct Tls<'a> {
    pub certificate: &'a str,
    pub key: &'a str,
}

/// A configuration with one server on 127.0.0.1, of which `serves` says what it serves. Paths are relative to the folder
/// that `-p` names.
pub fn configuration(port: u16, tls: Option<&Tls<'_>>, serves: &str) -> String {
    let (ssl, tls) = match tls {
        Some(Tls { certificate, key }) => (
            " ssl",
            format!(
                "ssl_certificate {certificate}; ssl_certificate_key {key}; ssl_protocols TLSv1.3; \
                 ssl_conf_command Ciphersuites {CIPHER};"
            ),
        ),
        None => ("", String::new()),
    };
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
    access_log off;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{
        listen 127.0.0.1:{port}{ssl};
        {tls}
        {serves}
    }}
}}
"
    )
}
