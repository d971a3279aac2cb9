//! How fast a ledger is verified: `cargo run --release -p banqiao-ledger --example verify_rate -- URL`.
//!
//! URL is that of a ledger, such as the example `commit_rate` leaves behind. Signatures are verified by that one's key.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{env, error::Error, time::Instant};

use banqiao_ledger::verify::{Step, Verification};
use banqiao_tlog::note::Signer;

fn main() -> Result<(), Box<dyn Error>> {
    let url = env::args().nth(1).ok_or("usage: verify_rate URL")?;
    let signer = Signer::from_seed("qingdao.jiaodong/ledger/1", &[1; 32])?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let begun = Instant::now();
        let keys = vec![signer.verifier().clone()];
        let mut verification = Verification::open(&url, keys, None).await?;
        let end = loop {
            match verification.step().await? {
                Step::More(_) => {}
                end => break end,
            }
        };
        let took = begun.elapsed().as_secs_f64();
        let done = u32::try_from(verification.progress().done)?;
        println!(
            "{end:?}: {done} entries in {took:.2} s, {:.0}/s",
            f64::from(done) / took
        );
        println!("{:?}", verification.summary());
        Ok(())
    })
}
