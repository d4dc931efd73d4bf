//! A share whose answers are asked for without a socket, for tests.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use tower::ServiceExt as _;

use super::guard::Peer;
use crate::share::activity::{Activity, Event, Observer};
use crate::share::gate::{Gate, Policy, Secret, VisitorId};
use crate::share::rights::{Right, Rights};
use crate::share::state::{About, Share};
use crate::share::tree::Tree;

/// Who asked for what, and the status.
pub(super) type Line = (Option<VisitorId>, String, u16);

/// The lines that the owner's log would have.
#[derive(Clone, Default)]
pub(super) struct Lines(pub(super) Arc<Mutex<Vec<Line>>>);

impl Observer for Lines {
    fn see(&self, event: &Event) {
        if let Event::Request { visitor, line, status, .. } = event {
            self.0.lock().unwrap().push((*visitor, line.clone(), *status));
        }
    }
}

/// A share of a folder.
pub(super) struct Served {
    pub(super) share: Arc<Share>,
    router: Router,
    pub(super) lines: Lines,
}

impl Served {
    pub(super) fn new(dir: &Path, rights: Rights) -> Served {
        Served::as_known(dir, rights, "h:1", false)
    }

    /// Under this authority.
    pub(super) fn as_known(dir: &Path, rights: Rights, authority: &str, is_https: bool) -> Served {
        let (tree, token, lines) = (Tree::open(&[dir], false).unwrap(), Secret::draw().unwrap(), Lines::default());
        let policy = Policy { token: token.clone(), rights, password: None, expires: None };
        let authorities = vec![authority.to_string()].into();
        let about = About { title: "t".into(), host: "h".into(), is_https, authorities };
        let activity = Arc::new(Activity::new(Box::new(lines.clone())));
        let share = Arc::new(Share::new(tree, about, (token, Gate::new(policy, Instant::now())), activity));
        Served { router: super::router(share.clone()), share, lines }
    }

    /// Ask at this host.
    pub(super) async fn ask_at(
        &self,
        host: &str,
        line: (&str, &str),
        headers: &[(&str, &str)],
        body: Body,
    ) -> Response<Body> {
        let mut request = Request::builder().method(line.0).uri(line.1).header("host", host);
        request = request.header("authorization", format!("Bearer {}", self.share.token.encode()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(body).unwrap();
        request.extensions_mut().insert(Peer(SocketAddr::from(([192, 0, 2, 1], 1))));
        self.router.clone().oneshot(request).await.unwrap()
    }

    pub(super) async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Body) -> Response<Body> {
        self.ask_at("h:1", (method, target), headers, body).await
    }

    pub(super) async fn get(&self, target: &str) -> Response<Body> {
        self.ask("GET", target, &[], Body::empty()).await
    }
}

/// What visitors may do by default, and upload.
pub(super) fn everything() -> Rights {
    [Right::Upload, Right::Chat].into_iter().fold(Rights::usual(), Rights::with)
}
