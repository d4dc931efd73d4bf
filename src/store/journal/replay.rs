//! Which of the noted blocks of a journal are believed when it is opened.
//!
//! They wait until a `Synced` covers them, until a restart voids them, or until the end, where they count in the same
//! boot.

use std::collections::HashMap;

use super::state::BLOCKS_HELD_MAX;
use super::{FileNumber, Record, State};
use crate::proto::verify::BlockHash;

/// The blocks of one record, and its number.
type Noted = (u64, Vec<(u64, BlockHash)>);

/// A journal that is being read.
#[derive(Debug)]
pub(super) struct Replay {
    /// Noted and not covered so far, in order.
    noted: HashMap<FileNumber, Vec<Noted>>,
    /// How many blocks those are.
    waiting: usize,
    /// The boot in which the records that follow were written.
    boot: [u8; 16],
}

impl Replay {
    /// Of a journal that was begun in this boot.
    pub(super) fn new(boot: [u8; 16]) -> Replay {
        Replay { noted: HashMap::new(), waiting: 0, boot }
    }

    /// The record of this number.
    pub(super) fn take(&mut self, state: &mut State, number: u64, record: Record) {
        match record {
            Record::BlocksStored { file, blocks } => {
                // Those beyond are sent again.
                if self.waiting + blocks.len() <= BLOCKS_HELD_MAX {
                    self.waiting += blocks.len();
                    self.noted.entry(file).or_default().push((number, blocks));
                }
            }
            Record::Synced { file, before } => self.believe(state, file, before),
            Record::Restarted { boot } => {
                self.noted.clear();
                self.waiting = 0;
                self.boot = boot;
            }
            Record::FileBegun { file, .. } | Record::FileDropped { file } | Record::FileDone { file, .. } => {
                let gone = self.noted.remove(&file).unwrap_or_default();
                self.waiting -= gone.iter().map(|(_, blocks)| blocks.len()).sum::<usize>();
                state.apply(&record);
            }
            Record::Finished => state.apply(&record),
        }
    }

    /// There are no more. Says whether they end in this boot.
    pub(super) fn finish(mut self, state: &mut State, boot: [u8; 16]) -> bool {
        let is_same = self.boot == boot;
        let files: Vec<_> = self.noted.keys().copied().filter(|_| is_same).collect();
        files.into_iter().for_each(|file| self.believe(state, file, u64::MAX));
        is_same
    }

    fn believe(&mut self, state: &mut State, file: FileNumber, before: u64) {
        let Some(noted) = self.noted.get_mut(&file) else { return };
        let covered = noted.partition_point(|(number, _)| *number < before);
        for (_, blocks) in noted.drain(..covered) {
            self.waiting -= blocks.len();
            state.apply(&Record::BlocksStored { file, blocks });
        }
    }
}
