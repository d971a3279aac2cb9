//! What the demo plays, and what must be seen.

mod renewal;

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};
use banqiao_card::synthetic;
use banqiao_evidence::Verdict;
use banqiao_proto::{
    card::v1::{
        CardFunction, CardKey, CardRecord, CardState, ImportCardsRequest, LossKind,
        ReportLossRequest, ServiceCode, VerifyCardRequest, WatchCardStatesRequest,
    },
    directory::v1::{AddGrantRequest, GetStatusRequest, Grant, ListGrantsRequest},
    exchange::v1::Reason,
    ledger::v1::{Entry, GetEvidenceRequest, Kind, ShowExchangeRequest},
};
use prost::Message as _;
use prost_types::Timestamp;
use serde::Serialize;

use super::{
    CARD, CARD_LIFE, Steps, benefits,
    client::{self, System},
    items, laboratory, pension,
    processes::Processes,
};
use crate::audit::evidence;
use crate::sandbox::{Founder, Sandbox, SandboxCity};

/// Seed of the synthetic holders: each run has the same people.
pub(super) const SEED: u64 = 20_200_101;
/// How long the watcher may take to see a loss.
const SEEN_WITHIN: Duration = Duration::from_secs(20);
/// Validity of the demo's grants.
const GRANT_DAYS: i64 = 365;

/// One thing that must be so, and what was seen.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) held: bool,
    pub(super) seen: String,
}

/// The play.
pub(super) struct Scenario<'a> {
    pub(super) sandbox: &'a Sandbox,
    holders: u32,
    checks: Vec<Check>,
}

impl<'a> Scenario<'a> {
    pub(super) const fn new(sandbox: &'a Sandbox, holders: u32) -> Self {
        Self {
            sandbox,
            holders,
            checks: Vec::new(),
        }
    }

    pub(super) async fn run(
        &mut self,
        steps: &Steps,
        processes: &mut Processes,
    ) -> Result<Vec<Check>> {
        steps.say("Granting access: each city decides about its own services");
        for city in &self.sandbox.cities {
            self.grant(city)
                .await
                .with_context(|| format!("grants of {}", city.founder.en))?;
        }
        steps.say(&format!(
            "Importing {} synthetic card holders into each city",
            self.holders
        ));
        for city in &self.sandbox.cities {
            self.import(city, steps)
                .await
                .with_context(|| format!("import into {}", city.founder.en))?;
        }
        for city in &self.sandbox.cities {
            benefits::grants(self.sandbox, city)
                .await
                .with_context(|| format!("grants of {}", city.founder.en))?;
        }
        for city in &self.sandbox.cities {
            benefits::import(city)
                .await
                .with_context(|| format!("benefits of {}", city.founder.en))?;
        }
        steps.say("Calling across cities");
        self.everyone_verifies(steps).await?;
        self.hospital_sees_less(steps).await?;
        self.wrong_name(steps).await?;
        self.refused_purpose(steps).await?;
        self.ungranted_client(steps).await?;
        let exchange = self.loss(steps).await?;
        Box::pin(self.renewal(steps)).await?;
        self.benefits(steps).await?;
        pension::play(self, steps).await?;
        Box::pin(items::play(self, steps)).await?;
        Box::pin(laboratory::play(self, steps, processes)).await?;
        self.witnessed(steps).await?;
        self.proven(steps, &exchange).await?;
        Ok(self.checks.clone())
    }

    pub(super) fn check(&mut self, steps: &Steps, name: &'static str, held: bool, seen: String) {
        let check = Check { name, held, seen };
        steps.check(&check);
        self.checks.push(check);
    }

    /// The city with a code.
    pub(super) fn city(&self, code: &str) -> Result<&'a SandboxCity> {
        self.sandbox
            .cities
            .iter()
            .find(|city| city.founder.code == code)
            .context("no such city")
    }

    /// Grants of a city, unless they stand from an earlier run.
    async fn grant(&self, city: &SandboxCity) -> Result<()> {
        let mut grants = client::grants(city).await?;
        let held = grants
            .list_grants(ListGrantsRequest::default())
            .await?
            .into_inner()
            .grants;
        let mut wanted = Vec::new();
        for other in &self.sandbox.cities {
            let id = |path: &str| format!("spiffe://{}/{path}", other.domain);
            let mut methods = vec!["VerifyCard", "ReportLoss", "WatchCardStates"];
            if other.founder.code == city.founder.code {
                methods.push("ImportCards");
            }
            wanted.push(grant(
                id("hrss/hall"),
                &methods,
                &["benefit-eligibility", "card-service"],
                &[],
            ));
            wanted.push(Grant {
                service: CARD_LIFE.to_owned(),
                ..grant(id("hrss/hall"), &[], &["card-service"], &[])
            });
            wanted.push(grant(
                id("hospital/*"),
                &["VerifyCard"],
                &["medical-treatment"],
                &["group:basic"],
            ));
        }
        for grant in wanted {
            let stands =
                |held: &Grant| held.client == grant.client && held.service == grant.service;
            if held.iter().any(stands) {
                continue;
            }
            grants
                .add_grant(AddGrantRequest { grant: Some(grant) })
                .await?;
        }
        Ok(())
    }

    /// The city's own bureau hands its cards to the service, through its own gateway.
    async fn import(&mut self, city: &SandboxCity, steps: &Steps) -> Result<()> {
        let hall = System::connect(city, "hrss/hall").await?;
        let records: Vec<CardRecord> =
            synthetic::holders(city.founder.code.parse()?, self.holders, SEED)?.collect();
        let bar = steps.bar(records.len() as u64, city.founder.en);
        let counted = bar.clone();
        let lines =
            tokio_stream::iter(records.into_iter().enumerate().map(move |(index, card)| {
                counted.inc(1);
                ImportCardsRequest {
                    line: index as u64 + 1,
                    card: Some(card),
                }
            }));
        let request = client::request(lines, city.founder.code, "card-service")?;
        let answer = hall.cards().import_cards(request).await?.into_inner();
        bar.finish_and_clear();
        let taken = answer.created + answer.updated + answer.unchanged;
        // A card that an earlier run has reported lost stays lost, whatever an import says.
        let lost = answer
            .results
            .iter()
            .filter(|line| line.rule.contains("a loss that was reported"))
            .count();
        self.check(
            steps,
            "cards imported",
            taken + answer.refused == u64::from(self.holders) && answer.refused == lost as u64,
            format!(
                "{}: {} new, {} changed, {} as before, {} refused",
                city.founder.en, answer.created, answer.updated, answer.unchanged, answer.refused
            ),
        );
        Ok(())
    }

    /// Each city's service hall verifies a card of each other city.
    async fn everyone_verifies(&mut self, steps: &Steps) -> Result<()> {
        let (mut asked, mut matched) = (0, 0);
        for from in &self.sandbox.cities {
            let hall = System::connect(from, "hrss/hall").await?;
            for to in &self.sandbox.cities {
                let card = holder(&to.founder, 0)?;
                let request = client::request(
                    verify(&card, Some(&card.name)),
                    to.founder.code,
                    "card-service",
                )?;
                asked += 1;
                if hall
                    .cards()
                    .verify_card(request)
                    .await?
                    .into_inner()
                    .r#match
                {
                    matched += 1;
                }
            }
        }
        self.check(
            steps,
            "permitted calls",
            matched == asked,
            format!("{matched} of {asked} cards verified between every pair of cities"),
        );
        Ok(())
    }

    /// The grant of hospitals discloses less than that of bureaus.
    async fn hospital_sees_less(&mut self, steps: &Steps) -> Result<()> {
        let hospital = System::connect(self.city("370600")?, "hospital/his").await?;
        let card = holder(&self.city("370200")?.founder, 1)?;
        let request = client::request(
            verify(&card, Some(&card.name)),
            "370200",
            "medical-treatment",
        )?;
        let answer = hospital.cards().verify_card(request).await?.into_inner();
        let less =
            answer.financial_state() == CardState::Unspecified && answer.expires_on.is_empty();
        let seen = "Yantai's hospital gets match and social state of a Qingdao card, not the financial state or the expiry";
        self.check(
            steps,
            "disclosed fields",
            answer.r#match && less,
            seen.to_owned(),
        );
        Ok(())
    }

    async fn wrong_name(&mut self, steps: &Steps) -> Result<()> {
        let hall = System::connect(self.city("371100")?, "hrss/hall").await?;
        let card = holder(&self.city("371000")?.founder, 2)?;
        let request = client::request(verify(&card, Some("测试无此人")), "371000", "card-service")?;
        let answer = hall.cards().verify_card(request).await?.into_inner();
        let silent = !answer.r#match && answer.social_state() == CardState::Unspecified;
        self.check(
            steps,
            "wrong name",
            silent,
            "no match, and no word of which field it was".to_owned(),
        );
        Ok(())
    }

    async fn refused_purpose(&mut self, steps: &Steps) -> Result<()> {
        let hall = System::connect(self.city("370600")?, "hrss/hall").await?;
        let card = holder(&self.city("370200")?.founder, 3)?;
        let request = client::request(verify(&card, None), "370200", "statistics")?;
        self.refused(
            steps,
            "refused purpose",
            hall.cards().verify_card(request).await.err(),
            Reason::PurposeNotAllowed,
        );
        Ok(())
    }

    async fn ungranted_client(&mut self, steps: &Steps) -> Result<()> {
        let bank = System::connect(self.city("371100")?, "bank/counter").await?;
        let card = holder(&self.city("370700")?.founder, 4)?;
        let request = client::request(verify(&card, None), "370700", "card-service")?;
        self.refused(
            steps,
            "ungranted client",
            bank.cards().verify_card(request).await.err(),
            Reason::NotGranted,
        );
        Ok(())
    }

    fn refused(
        &mut self,
        steps: &Steps,
        name: &'static str,
        status: Option<tonic::Status>,
        expected: Reason,
    ) {
        let Some(status) = status else {
            self.check(steps, name, false, "the call was permitted".to_owned());
            return;
        };
        let (reason, exchange) = client::refusal(&status);
        let word = banqiao_proto::ReasonTable::name(reason);
        self.check(
            steps,
            name,
            reason == expected && !exchange.is_empty(),
            format!("{word}, exchange {exchange}"),
        );
    }

    /// A loss reported in Weihai on a Weifang card, seen by a watcher in Rizhao.
    async fn loss(&mut self, steps: &Steps) -> Result<String> {
        let (weifang, weihai, rizhao) = (
            self.city("370700")?,
            self.city("371000")?,
            self.city("371100")?,
        );
        let reporter = System::connect(weihai, "hrss/hall").await?;
        let watcher = System::connect(rizhao, "hrss/hall").await?;
        let card = self.sound_card(&reporter, &weifang.founder).await?;
        let watch = client::request(WatchCardStatesRequest::default(), "370700", "card-service")?;
        let mut changes = watcher.cards().watch_card_states(watch).await?.into_inner();
        // The first message says where the watch stands: from then on nothing is missed.
        changes.message().await?.context("the watch ended")?;
        let report = ReportLossRequest {
            request_id: uuid::Uuid::now_v7().to_string(),
            key: Some(CardKey {
                card_number: card.card_number.clone(),
                ..CardKey::default()
            }),
            name: card.name.clone(),
            kind: LossKind::Temporary.into(),
            function: CardFunction::Social.into(),
            reported_in: weihai.founder.code.to_owned(),
        };
        let sent = client::request(report.clone(), "370700", "card-service")?;
        let answer = reporter.cards().report_loss(sent).await?;
        let exchange = client::exchange_id(answer.metadata());
        let answer = answer.into_inner();
        let applied = answer.applied && answer.state() == CardState::TempLost && !answer.repeated;
        self.check(
            steps,
            "loss reported",
            applied,
            format!("in Weihai, applied by Weifang, exchange {exchange}"),
        );

        let again = client::request(report, "370700", "card-service")?;
        let again = reporter.cards().report_loss(again).await?.into_inner();
        self.check(
            steps,
            "report repeated",
            again.applied && again.repeated,
            "the same request id gets the first answer again".to_owned(),
        );

        let seen = tokio::time::timeout(SEEN_WITHIN, async {
            while let Some(message) = changes.message().await? {
                let change = message.change.unwrap_or_default();
                if change.card_number == card.card_number && change.to() == CardState::TempLost {
                    return Ok(change.actor_city);
                }
            }
            anyhow::bail!("the watch ended")
        });
        let seen = seen.await.ok().and_then(Result::ok);
        self.check(
            steps,
            "watcher in Rizhao",
            seen.as_deref() == Some("371000"),
            "sees the change, asked for in 371000".to_owned(),
        );
        self.recorded(steps, weihai, weifang, &exchange).await?;
        Ok(exchange)
    }

    /// Both gateways hold the exchange.
    async fn recorded(
        &mut self,
        steps: &Steps,
        consumer: &SandboxCity,
        provider: &SandboxCity,
        exchange: &str,
    ) -> Result<()> {
        let kinds = self.kinds(consumer, provider, exchange).await?;
        let both = kinds
            .iter()
            .all(|kinds| *kinds == [Kind::Open, Kind::Close]);
        let seen = "OPEN and CLOSE in Weihai's ledger and in Weifang's".to_owned();
        self.check(steps, "both ledgers hold it", both, seen);
        Ok(())
    }

    /// Kinds of the entries of an exchange in the ledgers of both cities.
    pub(super) async fn kinds(
        &self,
        consumer: &SandboxCity,
        provider: &SandboxCity,
        exchange: &str,
    ) -> Result<Vec<Vec<Kind>>> {
        let id = exchange.split('/').next().unwrap_or_default().to_owned();
        let mut kinds = Vec::new();
        for city in [consumer, provider] {
            let show = || ShowExchangeRequest {
                exchange_id: id.clone(),
                open_private: false,
            };
            let mut audit = client::audit(city).await?;
            let mut found = Vec::new();
            // The consumer's CLOSE follows its answer.
            for _ in 0..50 {
                found = entries(audit.show_exchange(show()).await?.into_inner().entries)?;
                if found.contains(&Kind::Close) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            kinds.push(found);
        }
        Ok(kinds)
    }

    /// Every city's ledger has a checkpoint that all other cities have cosigned.
    async fn witnessed(&mut self, steps: &Steps) -> Result<()> {
        let others = self.sandbox.cities.len() - 1;
        let mut sizes = Vec::new();
        for city in &self.sandbox.cities {
            let mut admin = client::operator(city).await?;
            let cosigned = async {
                loop {
                    let status = admin.get_status(GetStatusRequest {}).await?.into_inner();
                    let size = status.witnessed_size;
                    let all = status
                        .witnesses
                        .iter()
                        .filter(|witness| size > 0 && witness.cosigned_size == size)
                        .count();
                    if all == others {
                        return Ok::<_, tonic::Status>(size);
                    }
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            };
            if let Ok(size) = tokio::time::timeout(SEEN_WITHIN, cosigned).await {
                sizes.push(size?);
            }
        }
        let held = sizes.len() == self.sandbox.cities.len();
        let seen = format!(
            "checkpoints over {} entries, each cosigned by the {others} other cities",
            sizes.iter().sum::<u64>()
        );
        self.check(steps, "ledgers witnessed", held, seen);
        Ok(())
    }

    /// One file proves the loss report offline, from Weihai's ledger and Weifang's.
    async fn proven(&mut self, steps: &Steps, exchange: &str) -> Result<()> {
        let weihai = self.city("371000")?;
        let root = weihai
            .folder
            .parent()
            .context("the sandbox has no folder")?;
        let mut pin = [0; 32];
        let text = fs::read_to_string(root.join("directory.pin"))?;
        hex::decode_to_slice(text.trim(), &mut pin)?;
        let mut audit = client::audit(weihai).await?;
        let asked = GetEvidenceRequest {
            exchange_id: exchange.split('/').next().unwrap_or_default().to_owned(),
            ..GetEvidenceRequest::default()
        };
        let proven = async {
            loop {
                let bundle = evidence::fetch(&mut audit, asked.clone()).await?;
                let report = banqiao_evidence::verify(&bundle, &pin, &[]);
                // Receipts are linked to witnessed checkpoints within seconds.
                if report.verdict() == Verdict::Valid {
                    return anyhow::Ok((bundle, report));
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        let proven = tokio::time::timeout(SEEN_WITHIN, proven).await;
        let (held, seen) = match proven {
            Ok(Ok((bundle, report))) => {
                let path = root.join("loss.evidence");
                fs::write(&path, bundle.to_bytes()?)?;
                let path = path.display();
                (
                    true,
                    format!(
                        "{} statements proven offline: banqiao verify {path} --pin {}",
                        report.proven_count(),
                        text.trim()
                    ),
                )
            }
            Ok(Err(error)) => (false, format!("{error:#}")),
            Err(_) => (false, "not everything was proven in time".to_owned()),
        };
        self.check(steps, "evidence", held, seen);
        Ok(())
    }

    /// A card of a city whose social function is in order: an earlier run may have reported some lost.
    async fn sound_card(&self, hall: &System, city: &Founder) -> Result<CardRecord> {
        for index in 10..synthetic::IN_ORDER {
            let card = holder(city, index)?;
            let request = client::request(verify(&card, None), city.code, "card-service")?;
            let answer = hall.cards().verify_card(request).await?.into_inner();
            if answer.social_state() == CardState::Normal {
                return Ok(card);
            }
        }
        anyhow::bail!("every card of the demo is reported lost: run with --fresh")
    }
}

fn entries(found: Vec<banqiao_proto::ledger::v1::IndexedEntry>) -> Result<Vec<Kind>> {
    found
        .into_iter()
        .map(|entry| Ok(Entry::decode(entry.entry)?.kind()))
        .collect()
}

/// A synthetic holder of a city.
pub(super) fn holder(city: &Founder, index: u32) -> Result<CardRecord> {
    synthetic::holders(city.code.parse()?, index + 1, SEED)?
        .last()
        .context("no such holder")
}

/// Number of a card of a city that `banqiao demo` has imported.
pub(super) fn sample_card(city: &Founder) -> Result<String> {
    Ok(holder(city, 0)?.card_number)
}

fn verify(card: &CardRecord, name: Option<&str>) -> VerifyCardRequest {
    VerifyCardRequest {
        key: Some(CardKey {
            social_security_number: card.social_security_number.clone(),
            card_identification_code: card.card_identification_code.clone(),
            ..CardKey::default()
        }),
        name: name.unwrap_or_default().to_owned(),
        service_code: ServiceCode::QueryState.into(),
    }
}

/// A grant of the card service for a year.
pub(super) fn grant(client: String, methods: &[&str], purposes: &[&str], fields: &[&str]) -> Grant {
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let now = banqiao_directory::Clock::system().now_s();
    Grant {
        client,
        service: CARD.to_owned(),
        methods: owned(methods),
        purposes: owned(purposes),
        disclosed_fields: owned(fields),
        not_before: Some(Timestamp {
            seconds: now - 60,
            nanos: 0,
        }),
        not_after: Some(Timestamp {
            seconds: now + GRANT_DAYS * 86_400,
            nanos: 0,
        }),
        legal_basis: "鲁政发〔2020〕2号 (十七); 社会保险经办条例第七条".to_owned(),
        request_number: "DEMO-2026-0001".to_owned(),
        ..Grant::default()
    }
}
