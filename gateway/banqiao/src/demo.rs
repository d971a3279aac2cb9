//! `banqiao demo`: five cities on this machine, a scripted scenario across them, and then a network to try things on.

mod benefits;
mod client;
mod count;
mod items;
mod laboratory;
mod pension;
mod processes;
mod scenario;

use std::{
    io::{IsTerminal as _, Write},
    path::PathBuf,
};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use crate::{
    exit::Exit,
    sandbox::{self, Backend, PlannedService, Program, Sandbox},
};
pub(crate) use client::is_ready;
use processes::Processes;
use scenario::{Check, Scenario};

/// Full name of the card service.
const CARD: &str = "banqiao.card.v1.CardService";
/// Full name of the pension transfers of the card service.
const PENSION: &str = "banqiao.card.v1.PensionTransferService";
/// Full name of the service of applications for cards.
const CARD_LIFE: &str = "banqiao.card.v1.CardLifeService";
/// Full name of the entitlement service, which the card service's program serves, too.
const ENTITLEMENT: &str = "banqiao.card.v1.EntitlementService";
/// Full name of the eligibility service, likewise.
const ELIGIBILITY: &str = "banqiao.card.v1.EligibilityService";
/// Full name of the service of laboratory reports.
const REPORTS: &str = "banqiao.lab.v1.ReportService";
/// Full name of the service of quality rounds.
const QUALITY: &str = "banqiao.lab.v1.QualityService";
/// Full name of the service of recognition.
const RECOGNITION: &str = "banqiao.lab.v1.RecognitionService";
/// Full name of the service of cases.
const CASES: &str = "banqiao.item.v1.CaseService";
/// Full name of the service of their materials.
const MATERIALS: &str = "banqiao.item.v1.MaterialService";
/// Full name of the service of ratings (好差评).
const RATINGS: &str = "banqiao.item.v1.RatingService";
/// Full name of the service of figures and reports.
const STATISTICS: &str = "banqiao.item.v1.StatisticsService";
/// Every service that a city of the demo carries.
const SERVICES: [(&str, Program); 16] = [
    (CARD, Program::Card),
    (CARD_LIFE, Program::Card),
    (ENTITLEMENT, Program::Card),
    (ELIGIBILITY, Program::Card),
    (PENSION, Program::Card),
    ("banqiao.lab.v1.CatalogueService", Program::Lab),
    (REPORTS, Program::Lab),
    (QUALITY, Program::Lab),
    (RECOGNITION, Program::Lab),
    ("banqiao.lab.v1.FhirService", Program::Lab),
    ("banqiao.lab.v1.ReferralService", Program::Lab),
    ("banqiao.item.v1.CatalogueService", Program::Item),
    (CASES, Program::Item),
    (MATERIALS, Program::Item),
    (RATINGS, Program::Item),
    (STATISTICS, Program::Item),
];
/// First port: below those that systems give to connections (32768 and up on Linux), which could take it first.
const BASE_PORT: u16 = 17_020;

/// Run five cities on this machine: calls, refusals, the log.
#[derive(Debug, clap::Args)]
pub struct DemoCommand {
    /// Folder for keys, configs, databases and logs. Kept between runs.
    #[arg(long, value_name = "FOLDER", default_value = "banqiao-demo")]
    data: PathBuf,
    /// Begin with an empty folder.
    #[arg(long)]
    fresh: bool,
    /// Stop after the scenario: exit 0 if every check held, else 1.
    #[arg(long)]
    once: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
    /// Synthetic card holders of each city.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    holders: u32,
    /// Collector of traces and metrics (OTLP over gRPC), such as http://127.0.0.1:4317.
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// First of the thirty ports on 127.0.0.1. Others are taken where one of them is in use.
    #[arg(long, value_name = "PORT", default_value_t = BASE_PORT)]
    base_port: u16,
}

impl DemoCommand {
    /// Runs the demo.
    ///
    /// # Errors
    ///
    /// The network does not start. A check that does not hold is an exit code, not an error.
    pub async fn run(&self, out: &mut (dyn Write + Send)) -> Result<Exit> {
        if self.fresh {
            Sandbox::remove(&self.data)?;
        }
        let steps = Steps::new(self.json);
        steps.say("Making authorities, certificates and the directory of five cities");
        let sandbox = Sandbox::open(&self.plan())?;
        steps.say(
            "Starting five gateways, and the card, laboratory and item services of five cities",
        );
        let mut processes = Processes::start(&sandbox)?;
        let outcome = tokio::select! {
            outcome = self.play(&sandbox, &mut processes, &steps, out) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
        };
        let stopped = processes.stop().await;
        let exit = outcome?;
        stopped?;
        Ok(exit)
    }

    fn plan(&self) -> sandbox::Plan {
        let telemetry = self.otlp.as_ref().map_or_else(String::new, |url| {
            format!(
                "\n[telemetry]\notlp_endpoint = {}\n",
                toml::Value::String(url.clone())
            )
        });
        sandbox::Plan {
            root: self.data.clone(),
            cities: sandbox::FOUNDERS.len(),
            base_port: self.base_port,
            services: SERVICES
                .map(|(name, program)| PlannedService {
                    name: name.to_owned(),
                    descriptor_set: banqiao_proto::FILE_DESCRIPTOR_SET.to_vec(),
                    backend: Backend::Program(program),
                })
                .into(),
            extra_config: telemetry,
        }
    }

    async fn play(
        &self,
        sandbox: &Sandbox,
        processes: &mut Processes,
        steps: &Steps,
        out: &mut (dyn Write + Send),
    ) -> Result<Exit> {
        processes.ready(sandbox).await?;
        let mut scenario = Scenario::new(sandbox, self.holders);
        let checks = scenario.run(steps, processes).await?;
        let counts = count::all(sandbox).await?;
        let held = checks.iter().all(|check| check.held);
        if self.json {
            let object = json!({
                "cities": counts,
                "checks": checks,
                "directory_version": sandbox.directory_version,
                "kept": sandbox.kept,
                "ok": held,
            });
            writeln!(out, "{object}")?;
        } else {
            count::print(out, &counts)?;
            let failed = checks.iter().filter(|check| !check.held).count();
            writeln!(
                out,
                "\n{} checks held, {failed} did not.",
                checks.len() - failed
            )?;
        }
        out.flush()?;
        if self.once {
            return Ok(if held { Exit::Done } else { Exit::Failed });
        }
        if !self.json {
            self.invite(sandbox, out)?;
        }
        processes.keep(sandbox).await?;
        Ok(Exit::Done)
    }

    /// How to go on from here.
    fn invite(&self, sandbox: &Sandbox, out: &mut (dyn Write + Send)) -> Result<()> {
        let [qingdao, yantai, ..] = &*sandbox.cities else {
            return Ok(());
        };
        let (certificate, key) = yantai.system_files("hrss/hall");
        let card = scenario::sample_card(&qingdao.founder)?;
        writeln!(
            out,
            "\nThe network stays up until Ctrl-C. In another terminal, call Qingdao's card service as Yantai's service hall:\n\n  \
             banqiao call {CARD}/VerifyCard \\\n    --gateway {} --cert {} --key {} --ca {} \\\n    \
             --to 370200 --purpose card-service --basis 'statutory:社会保险经办条例第七条' \\\n    \
             -d '{{\"key\":{{\"cardNumber\":\"{card}\"}}}}'\n\nLook at the log, the grants and the state of a gateway:\n\n  \
             banqiao audit search --admin unix:{folder}/admin\n  \
             banqiao grant list   --admin unix:{folder}/admin\n  \
             banqiao status       --admin unix:{folder}/admin\n  \
             curl http://{}/metrics\n\nLogs and databases are in {}.",
            yantai.client,
            certificate.display(),
            key.display(),
            yantai.ca().display(),
            qingdao.ops,
            sandbox.root.display(),
            folder = qingdao.folder.display(),
        )?;
        out.flush()?;
        Ok(())
    }
}

/// Says on standard error what goes on, with a bar where it takes long.
pub(crate) struct Steps {
    quiet: bool,
}

impl Steps {
    const fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    fn say(&self, what: &str) {
        if !self.quiet {
            let _ = writeln!(std::io::stderr(), "{what}");
        }
    }

    fn check(&self, check: &Check) {
        let mark = if check.held { "✓" } else { "✗" };
        self.say(&format!("  {mark} {}: {}", check.name, check.seen));
    }

    fn bar(&self, length: u64, what: &'static str) -> ProgressBar {
        if self.quiet || !std::io::stderr().is_terminal() {
            return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
        }
        let style = ProgressStyle::with_template("  {msg} {bar:40} {pos}/{len} {per_sec}");
        let bar = ProgressBar::new(length).with_message(what);
        match style {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        }
    }
}
