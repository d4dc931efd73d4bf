//! `/f/…/?zip`, `?tar` and `POST /archive`: folders and selections as one archive, made while it is sent.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::Response;
use axum::{Extension, Form};

use super::files::{file_name, set};
use super::guard::Guest;
use super::problem::Problem;
use crate::share::activity::Action;
use crate::share::archive::{self, Format, Top};
use crate::share::flow::{PIECES_MAX, flow_by};
use crate::share::path::UrlPath;
use crate::share::rights::Right;
use crate::share::state::Share;
use crate::share::tree::Found;
use crate::share::wire::Orders;
use crate::store::confined::RelativePath;
use crate::text::printable;

/// Most entries of a selection.
const ITEMS_MAX: usize = 10_000;

/// A folder, under its own name; the top one under the share's.
pub async fn folder(
    share: Arc<Share>,
    guest: Guest,
    path: RelativePath,
    (format, is_head): (Format, bool),
    orders: Option<Orders>,
) -> Result<Response, Problem> {
    guest.may(Right::View)?;
    guest.may(Right::Download)?;
    let name = match path.names().last() {
        Some(name) => name.to_vec(),
        None => share.about.title.replace('/', "_").into_bytes(),
    };
    let (from, folder) = (share.clone(), path.clone());
    tokio::task::spawn_blocking(move || match folder.is_root() {
        true => Ok(()),
        false => match from.tree.find(&folder)? {
            Found::Folder(_) => Ok(()),
            Found::File(_) => Err(Problem::missing()),
        },
    })
    .await??;
    let tops = vec![Top { path, name: Some(name.clone()) }];
    answer(share, &guest, tops, (&name, format, is_head), orders)
}

/// `POST /archive`: `format`, `in` and an `item` for each entry that was selected: its path from that folder.
pub async fn selection(
    State(share): State<Arc<Share>>,
    guest: Guest,
    orders: Option<Extension<Orders>>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    guest.may(Right::View)?;
    guest.may(Right::Download)?;
    let value = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let format = match value("format") {
        None | Some("zip") => Format::Zip,
        Some("tar") => Format::Tar,
        Some(_) => return Err(Problem::bad("format is zip or tar.")),
    };
    let folder = UrlPath::decode(value("in").unwrap_or_default()).map_err(|_| Problem::missing())?.path;
    let items: Vec<&str> = fields.iter().filter(|(name, _)| name == "item").map(|(_, item)| item.as_str()).collect();
    if items.is_empty() || items.len() > ITEMS_MAX {
        return Err(Problem::bad("item has to be there 1 to 10,000 times."));
    }
    let mut tops = Vec::with_capacity(items.len());
    for item in items {
        let item = UrlPath::decode(item).map_err(|_| Problem::missing())?.path;
        if item.is_root() {
            return Err(Problem::missing());
        }
        // Hits of a search are below the folder, and may have the same name: each is called by its path from there.
        let path = item.names().try_fold(folder.clone(), |above, name| above.join(name));
        tops.push(Top { path: path.map_err(|_| Problem::missing())?, name: Some(item.as_bytes().to_vec()) });
    }
    let called = folder.names().last().unwrap_or(share.about.title.as_bytes()).to_vec();
    answer(share, &guest, tops, (&called, format, false), orders.map(|Extension(orders)| orders))
}

fn answer(
    share: Arc<Share>,
    guest: &Guest,
    tops: Vec<Top>,
    (name, format, is_head): (&[u8], Format, bool),
    orders: Option<Orders>,
) -> Result<Response, Problem> {
    let mut called = name.to_vec();
    called.extend_from_slice(b".");
    called.extend_from_slice(format.name().as_bytes());
    let body = match is_head {
        true => Body::empty(),
        false => {
            let busy = || Problem::busy("Too many archives are being made: try again when one is done.");
            let slot = share.reading.archives.take(guest.who()).ok_or_else(busy)?;
            let running = share.activity.begin(Action::Archive, printable(&called), guest.who(), None);
            let (tap, body) = flow_by(PIECES_MAX, orders);
            let thread = std::thread::Builder::new().name("archive".to_string());
            let made = thread.spawn(move || {
                // The connection is cut when it fails; here is nobody to tell.
                if let Err(error) = archive::write(&share.tree, &tops, format, &tap.sink()) {
                    tracing::debug!(%error, "an archive was not finished");
                }
            });
            made.map_err(|_| Problem::failed())?;
            Body::new(body.told(Some(running), Some(slot)))
        }
    };
    let mut response = Response::new(body);
    let to = response.headers_mut();
    to.insert(header::CONTENT_TYPE, HeaderValue::from_static(format.mime()));
    set(to, header::CONTENT_DISPOSITION, &format!("attachment; {}", file_name(&called)));
    // It is made anew each time, and a part of it cannot be asked for.
    set(to, header::ACCEPT_RANGES, "none");
    set(to, header::CACHE_CONTROL, "no-store");
    Ok(response)
}
