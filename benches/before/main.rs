//! An earlier build beside this one: whether streams in the clear are as fast as they were.
//!
//! ```text
//! git worktree add ../before COMMIT && cargo build --release --manifest-path ../before/Cargo.toml
//! LINERATE_BEFORE=../before/target/release/linerate cargo bench --bench before
//! ```
//!
//! Both run `linerate bench` on the same two CPUs, over loopback, from hot memory, with the same congestion control.
//! They are measured in turns, and each begins every other pair; the figure is the median of the ratios of pairs,
//! after / before. Without `LINERATE_BEFORE` nothing is measured; a test run then compares this build with itself.
//! Writes `results/before-<UTC time>.json`, schema `linerate.before-bench/1`.
//!
//! | file | what it holds |
//! |---|---|
//! | `options` | the command line |
//! | `cells` | what is compared, and its pairs |
//! | `build` | one run of one build |
//! | `output` | the table and the result file |

mod build;
mod cells;
#[path = "../common/mod.rs"]
mod common;
mod options;
mod output;

use common::{interrupt, record::Record};
use options::{BEFORE_VARIABLE, Options};

fn main() -> anyhow::Result<()> {
    let Some(options) = Options::parse()? else {
        println!("skipped: {BEFORE_VARIABLE} names no earlier build to compare with");
        return Ok(());
    };
    interrupt::watch()?;
    // A test run proves that the bench works; its figures mean nothing and are not kept.
    let record = if options.is_test { None } else { Some(Record::prepare("before")?) };
    let cells = cells::measure(&options)?;
    print!("{}", output::table(&cells, &options));
    if let Some(record) = record {
        let path = record.write(&output::document(&cells, &options))?;
        println!("saved as {}", path.display());
    }
    Ok(())
}
