//! linerate beside the movers of files that people use today.
//!
//! ```text
//! cargo bench --bench movers                              all of it; about an hour
//! cargo bench --bench movers -- --only big --rounds 9 --save
//! cargo bench --bench movers -- --only small --files 20000 --rival rsync --rival tar
//! ```
//!
//! Rounds: every mover once, in an order of chance (`--seed`), then all of them again. Both ends are on this machine,
//! over loopback, with the same congestion control for all. After each run the destination is compared with the
//! source, byte by byte: a mover that lost something is told as incomplete and has no time. What is not installed is
//! skipped, with the reason. With `--save`, writes `results/movers-<workload>.json`, schema
//! `linerate.movers-bench/1`.
//!
//! | workload | what is moved |
//! |---|---|
//! | `big`, `big-disk`, `tls` | one file into memory; onto a disk, durable; encrypted |
//! | `small`, `small-disk` | many files of 4 KiB into memory; onto a disk, durable |
//! | `links` | a tree of mixed sizes with symlinks, hard links, empty folders, names that are not ASCII |
//! | `again` | many small files that are all there already |
//!
//! Durable is `--durability full` for linerate and `sync -f` after all others, inside their time.
//!
//! | file | what it holds |
//! |---|---|
//! | `options`, `workload` | the command line, what is moved |
//! | `mover` | the trait that every mover stands behind |
//! | `own_side`, `local`, `rsync`, `ssh`, `nginx`, `pipes`, `globus`, `xrootd` | the movers |
//! | `programs`, `setup` | what is installed; a home, keys and certificates for all |
//! | `process`, `run` | trees of processes; one run, timed |
//! | `trees`, `compare` | sources; whether a destination is one |
//! | `places` | folders, and what has to be done to them between runs |
//! | `congestion` | the same congestion control for all |
//! | `rounds` | who runs when |
//! | `targets`, `output` | what is wanted; the tables and the result file |

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod congestion;
mod globus;
mod local;
mod mover;
mod nginx;
mod options;
mod output;
mod own_side;
mod pipes;
mod places;
mod process;
mod programs;
mod rounds;
mod rsync;
mod run;
mod setup;
mod ssh;
mod targets;
mod trees;
mod workload;
mod xrootd;

use common::interrupt;
use common::record::Record;
use congestion::Congestion;
use options::Options;
use places::Places;
use setup::Setup;

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let network = Congestion::choose();
    interrupt::watch()?;
    eprintln!("network: {network}; seed {}", options.seed);
    let (setup, mut places) = (Setup::new()?, Places::new(&options)?);
    let mut faults = Vec::new();
    for &kind in &options.kinds {
        let name = format!("movers-{}.json", kind.name());
        // Found to be writable before anything is measured.
        let record = options.save.then(|| Record::named(&name)).transpose()?;
        let played = rounds::play(kind, &options, &setup, &mut places)?;
        print!("{}", output::tables(&played, &options, &network));
        if let Some(record) = record {
            println!("\nsaved as {}", record.write(&output::document(&played, &options, &network))?.display());
        }
        // What a rival loses or cannot do is in its table; that of ours is an error.
        let ours = played.contestants.iter().filter(|one| one.is_ours() && one.skipped.is_none());
        faults.extend(ours.filter_map(|one| Some(format!("{}, {}: {}", kind.name(), one.label, one.out()?))));
    }
    anyhow::ensure!(faults.is_empty(), "{}", faults.join("\n"));
    Ok(())
}
