//! `DELETE /f/…`: a file, or an empty folder.

use std::io::ErrorKind;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::guard::Guest;
use super::problem::Problem;
use crate::share::path::UrlPath;
use crate::share::rights::Right;
use crate::share::state::Share;
use crate::share::tree::{Tree, TreeError};
use crate::store::StoreError;
use crate::store::confined::{Kind, RelativePath};

/// Delete what a path names; of a link the link itself.
pub async fn delete(State(share): State<Arc<Share>>, guest: Guest, request: Request) -> Result<Response, Problem> {
    guest.may(Right::Delete)?;
    let encoded = request.uri().path().strip_prefix("/f/").unwrap_or_default();
    let url = UrlPath::decode(encoded).map_err(|_| Problem::missing())?;
    let (from, path) = (share.clone(), url.path.clone());
    tokio::task::spawn_blocking(move || remove(&from.tree, &path)).await??;
    share.changed(&url.path.parent().unwrap_or_else(RelativePath::root));
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn conflict(why: &str) -> Problem {
    Problem::new(StatusCode::CONFLICT, why)
}

fn remove(tree: &Tree, path: &RelativePath) -> Result<(), Problem> {
    let shared = "This is what is shared: only what is in it can be deleted.";
    if path.is_root() || (tree.items().is_some() && path.names().count() == 1) {
        return Err(conflict(shared));
    }
    let place = tree.place(path)?;
    let (root, path) = (&place.root, &place.path);
    let removed = match root.metadata(path).map_err(|error| of(error, Problem::missing))?.kind {
        Kind::Directory => root.remove_dir(path),
        Kind::File | Kind::Symlink => root.remove_file(path),
        _ => return Err(Problem::missing()),
    };
    // It is there, and can be seen; but nothing is changed through a link.
    removed.map_err(|error| of(error, || conflict("A folder on the way is a link: delete it where it is.")))
}

/// What is said of an error; `unfit`, if the way there is not fit.
fn of(error: StoreError, unfit: impl Fn() -> Problem) -> Problem {
    match &error {
        StoreError::System { error: system, .. } if system.kind() == ErrorKind::DirectoryNotEmpty => {
            conflict("The folder is not empty: delete what is in it first (names that are not shown count, too).")
        }
        StoreError::Unfit { .. } => unfit(),
        _ => TreeError::from(error).into(),
    }
}
