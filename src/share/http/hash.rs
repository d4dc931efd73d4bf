//! `/f/…?blake3`: the hash of a file's content, as `b3sum` prints it.
//!
//! Few files are read at a time, each by as many threads as there are cores. A hash is made to its end even if whoever
//! asked has gone, and kept: he asks again, and has it at once.

use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::guard::Guest;
use super::problem::Problem;
use crate::share::reading::Key;
use crate::share::rights::Right;
use crate::share::state::Share;
use crate::share::tree::Opened;
use crate::store::StoreError;
use crate::store::hashing::{Hashed, Work, hash_files};

/// The hash of a file.
pub async fn blake3(share: Arc<Share>, guest: &Guest, opened: Opened) -> Result<Response, Problem> {
    guest.may(Right::Download)?;
    let key = Key::from(&opened.metadata);
    if let Some(hash) = share.reading.hashed.find(&key) {
        return Ok(told(&hash, opened.metadata.len));
    }
    let busy = || Problem::busy("Too many files are being hashed: try again in a moment.");
    let slot = share.reading.hashes.take(guest.who()).ok_or_else(busy)?;
    let turn = share.reading.hashing.clone().acquire_owned().await.map_err(|_| Problem::failed())?;
    let hashed = tokio::task::spawn_blocking(move || {
        let _places = (slot, turn);
        // Somebody else may have wanted the same meanwhile.
        if let Some(hash) = share.reading.hashed.find(&key) {
            return Ok(hash);
        }
        let hash = hash(opened.file)?;
        share.reading.hashed.keep(key, hash);
        Ok(hash)
    });
    hashed.await?.map(|hash| told(&hash, opened.metadata.len)).map_err(|error: StoreError| match error {
        StoreError::Changed { .. } | StoreError::Truncated { .. } => Problem {
            retry_after: Some(5),
            ..Problem::new(axum::http::StatusCode::CONFLICT, "The file is being written.")
        },
        error => crate::share::tree::TreeError::from(error).into(),
    })
}

fn told(hash: &[u8; 32], len: u64) -> Response {
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Json(json!({ "blake3": hex, "bytes": len })).into_response()
}

/// One file, and what came of it.
struct One {
    file: Mutex<Option<File>>,
    hashed: Mutex<Option<Result<Hashed, StoreError>>>,
}

impl Work for One {
    type Job = &'static str;

    fn open(&self, name: &&'static str) -> Result<File, StoreError> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
        file.ok_or_else(|| StoreError::Changed { name: (*name).to_string() })
    }

    fn tell(&self, _: u64) {}

    fn done(&self, _: &'static str, hashed: Result<Hashed, StoreError>) {
        *self.hashed.lock().unwrap_or_else(PoisonError::into_inner) = Some(hashed);
    }
}

fn hash(file: File) -> Result<[u8; 32], StoreError> {
    const NAME: &str = "the file";
    let one = One { file: Mutex::new(Some(file)), hashed: Mutex::default() };
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    hash_files(threads, std::iter::once(NAME), &one);
    let hashed = one.hashed.into_inner().unwrap_or_else(PoisonError::into_inner);
    hashed.unwrap_or_else(|| Err(StoreError::Changed { name: NAME.to_string() })).map(|hashed| hashed.hash.0)
}
