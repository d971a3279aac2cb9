//! What the measurements of a call cost.
//!
//! ```text
//! cargo run --release -p banqiao-telemetry --example call_cost
//! ```
//!
//! Prints processor time per call, of one thread and of two at once, and of a span without a collector.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{error::Error, fs, thread, time::Duration};

use banqiao_directory::Clock;
use banqiao_telemetry::{CallLabels, Resource, Side, Telemetry, TelemetrySettings};
use tonic::Code;

type Failure = Box<dyn Error + Send + Sync>;

const CALLS: u32 = 2_000_000;
const LABELS: CallLabels<'static> = CallLabels {
    side: Side::Consumer,
    service: "banqiao.card.v1.CardService",
    method: "VerifyCard",
    peer_city: "370600",
    code: Code::Ok,
    reason: "",
};

fn main() -> Result<(), Failure> {
    let settings =
        TelemetrySettings::new(Resource::new("call_cost", "0").with("banqiao.city", "370200"));
    let telemetry = Telemetry::build(settings, Clock::system())?;
    let metrics = telemetry.metrics();
    for threads in [1, 2] {
        let measure = || {
            cost(|number| metrics.call(&LABELS, Duration::from_micros(u64::from(number % 3_000))))
        };
        thread::scope(|scope| {
            let running: Vec<_> = (0..threads).map(|_| scope.spawn(measure)).collect();
            for thread in running {
                let cost = thread.join().map_err(|_| "a thread panicked")??;
                println!("{threads} threads: {cost} ns of CPU per call");
            }
            Ok::<(), Failure>(())
        })?;
    }
    let tracer = telemetry.tracer();
    let span = cost(|_| {
        tracer
            .start(std::hint::black_box(None), LABELS.method, Side::Local)
            .end(Code::Ok, "");
    })?;
    println!("a span without a collector: {span} ns");
    Ok(())
}

/// Processor time of this thread per call, in ns, so that a busy machine does not matter.
fn cost(mut call: impl FnMut(u32)) -> Result<u64, Failure> {
    let before = spent()?;
    for number in 0..CALLS {
        call(number);
    }
    Ok((spent()? - before) / u64::from(CALLS))
}

fn spent() -> Result<u64, Failure> {
    let schedule = fs::read_to_string("/proc/thread-self/schedstat")?;
    let running = schedule
        .split(' ')
        .next()
        .ok_or("no time in /proc/thread-self/schedstat")?;
    Ok(running.parse()?)
}
