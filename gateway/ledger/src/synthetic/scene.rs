//! The exchanges of a city in some months: who asks whom, about what, and how it ends.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
};

use banqiao_directory::CityCode;
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{
        AdminChange, Decision, Direction, Entry, Kind, Party, PrivatePart, Read,
        Result as CallResult, Side, Subject,
    },
};
use uuid::Uuid;

use super::{Synthesis, SynthesisError, draw::Draw};
use crate::append::{Append, Effect};

/// Code and name of each city.
const CITIES: [(&str, &str); 5] = [
    ("370200", "qingdao"),
    ("370600", "yantai"),
    ("370700", "weifang"),
    ("371000", "weihai"),
    ("371100", "rizhao"),
];
const AGENCIES: [&str; 10] = [
    "hospital",
    "hrss",
    "medical-insurance",
    "civil-affairs",
    "public-security",
    "health",
    "housing-fund",
    "transport",
    "education",
    "data",
];
const SYSTEMS: [&str; 4] = ["hall", "his", "lis", "app"];
const SERVICES: [&str; 10] = [
    "banqiao.card.v1.CardService",
    "synthetic.benefit.v1.BenefitService",
    "synthetic.lab.v1.LabService",
    "synthetic.residence.v1.ResidenceService",
    "synthetic.marriage.v1.MarriageService",
    "synthetic.fund.v1.FundService",
    "synthetic.transit.v1.TransitService",
    "synthetic.school.v1.SchoolService",
    "synthetic.archive.v1.ArchiveService",
    "synthetic.notice.v1.NoticeService",
];
const METHODS: [[&str; 4]; 10] = [
    ["VerifyCard", "GetCardStatus", "ReportLoss", "WatchCards"],
    [
        "CheckBenefit",
        "ListBenefits",
        "GetPension",
        "WatchBenefits",
    ],
    ["GetReport", "ListReports", "OrderTest", "WatchReports"],
    ["VerifyResidence", "GetResidence", "ListMoves", "WatchMoves"],
    [
        "VerifyMarriage",
        "GetCertificate",
        "ListRecords",
        "WatchRecords",
    ],
    [
        "GetBalance",
        "ListDeposits",
        "VerifyDeposit",
        "WatchDeposits",
    ],
    ["VerifyPass", "ListTrips", "BlockPass", "WatchPasses"],
    ["VerifyEnrolment", "GetSchool", "ListPupils", "WatchPupils"],
    ["GetFile", "ListFiles", "RequestFile", "WatchFiles"],
    ["GetNotice", "ListNotices", "SendNotice", "WatchNotices"],
];
const PURPOSES: [&str; 8] = [
    "benefit-eligibility",
    "medical-treatment",
    "card-service",
    "residence-check",
    "loss-report",
    "school-enrolment",
    "statistics",
    "audit",
];
const REFUSALS: [Reason; 8] = [
    Reason::NotGranted,
    Reason::RateExceeded,
    Reason::GrantExpired,
    Reason::PurposeNotAllowed,
    Reason::MetadataInvalid,
    Reason::ServiceUnknown,
    Reason::Overloaded,
    Reason::PathNotCanonical,
];
/// Reasons and gRPC statuses of calls that fail after they were permitted.
const FAILURES: [(Reason, u32); 5] = [
    (Reason::DeadlineExceeded, 4),
    (Reason::ServiceUnreachable, 14),
    (Reason::PeerUnreachable, 14),
    (Reason::UpstreamFailed, 14),
    (Reason::MessageMalformed, 3),
];
/// Operators of each client system.
const OPERATORS: u64 = 40;
const DAY_US: i64 = 86_400_000_000;
/// Hours of a day until which a share of its calls, in hundredths, has come.
const DAY: [(i64, i64); 4] = [(0, 0), (8, 12), (18, 86), (24, 100)];

/// A call that was opened and will be closed.
struct Pending {
    entry: Entry,
    peer: String,
    duration_us: i64,
}

/// The entries of a synthetic ledger, one by one, with their times.
pub(super) struct Scene {
    draw: Draw,
    own: usize,
    clients: Vec<Vec<Party>>,
    subjects: Vec<String>,
    from_us: i64,
    until_us: i64,
    entries: u64,
    made: u64,
    exchanges: u64,
    /// Calls that are open, by the time and number of their end.
    ends: BinaryHeap<Reverse<(i64, u64)>>,
    pending: BTreeMap<u64, Pending>,
    now_us: i64,
}

impl Scene {
    pub(super) fn new(city: CityCode, synthesis: &Synthesis) -> Result<Self, SynthesisError> {
        let own = CITIES.iter().position(|(code, _)| *code == city.as_str());
        let own = own.ok_or(SynthesisError::City)?;
        if synthesis.from_us < 0
            || synthesis.from_us >= synthesis.until_us
            || synthesis.clients == 0
        {
            return Err(SynthesisError::Settings);
        }
        let mut draw = Draw::new(synthesis.seed);
        let clients = CITIES
            .iter()
            .map(|city| clients_of(city, synthesis.clients, &mut draw))
            .collect();
        Ok(Self {
            draw,
            own,
            clients,
            subjects: synthesis.subjects.clone(),
            from_us: synthesis.from_us,
            until_us: synthesis.until_us,
            entries: synthesis.entries,
            made: 0,
            exchanges: 0,
            ends: BinaryHeap::new(),
            pending: BTreeMap::new(),
            now_us: synthesis.from_us,
        })
    }

    /// Exchanges that were begun so far, all of which end.
    pub(super) const fn exchanges(&self) -> u64 {
        self.exchanges
    }

    /// The time of what begins behind so many entries: evenly over the days, and within a day mostly by day.
    fn time(&self) -> i64 {
        let whole = i128::from(self.until_us - self.from_us);
        let even = whole * i128::from(self.made) / i128::from(self.entries.max(1));
        let even = i64::try_from(even).unwrap_or(0);
        let (day, share) = (even / DAY_US * DAY_US, even % DAY_US);
        let mut within = share;
        for pair in DAY.windows(2) {
            let [(begin, before), (end, behind)] = pair else {
                continue;
            };
            let hour = |hours: &i64| hours * (DAY_US / 24);
            let (low, high) = (before * (DAY_US / 100), behind * (DAY_US / 100));
            if (low..high).contains(&share) {
                let part = i128::from(share - low) * i128::from(hour(end) - hour(begin));
                within = hour(begin) + i64::try_from(part / i128::from(high - low)).unwrap_or(0);
            }
        }
        (self.from_us + day + within).min(self.until_us - 1)
    }

    /// The next entry and its time; times never fall. `None` when there are enough.
    pub(super) fn next(&mut self) -> Option<(i64, Append)> {
        if self.made >= self.entries {
            return None;
        }
        let left = self.entries - self.made;
        let open = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        let begin_us = self.time();
        let (time_us, append) = match self.ends.peek() {
            // What is open must end within the entries that are left.
            Some(Reverse((end_us, _))) if *end_us <= begin_us || open >= left => {
                (*end_us, self.end())
            }
            _ => (begin_us, self.begin(begin_us, left - open)),
        };
        self.made += 1;
        self.now_us = self.now_us.max(time_us).min(self.until_us - 1);
        Some((self.now_us, append))
    }

    /// What begins with one entry and room for so many.
    fn begin(&mut self, time_us: i64, room: u64) -> Append {
        match self.draw.below(10_000) {
            ..10 => self.admin(),
            10..50 => self.read(),
            50..500 => self.refused(time_us),
            _ if room < 2 => self.refused(time_us),
            _ => self.open(time_us),
        }
    }

    /// A call, as far as it is known when it begins, with its private part and the city of the other side.
    fn call(&mut self, time_us: i64) -> (Entry, PrivatePart, String) {
        let other = (self.own + 1 + index(self.draw.skewed(4))) % CITIES.len();
        let (side, from, to) = match self.draw.below(10) {
            0..4 => (Side::Consumer, self.own, other),
            4..8 => (Side::Provider, other, self.own),
            _ => (Side::Local, self.own, self.own),
        };
        let clients = self.clients.get(from).map_or(&[][..], Vec::as_slice);
        let client = self.draw.one_of(clients).cloned().unwrap_or_default();
        let code = |city: usize| CITIES.get(city).map_or("", |(code, _)| *code).to_owned();
        let service = index(self.draw.skewed(10));
        let name = SERVICES.get(service).copied().unwrap_or_default();
        let methods = METHODS.get(service).map_or(&[][..], |methods| &methods[..]);
        let method = self.draw.one_of(methods).copied().unwrap_or_default();
        let millis = u64::try_from(time_us / 1_000).unwrap_or(0);
        let exchange = uuid::Builder::from_unix_timestamp_millis(millis, &self.draw.bytes());
        let exchange: Uuid = exchange.into_uuid();
        let operator = self.draw.skewed(OPERATORS);
        let subjects = match self.draw.below(20) {
            0 => 0,
            1..19 => 1,
            _ => 2 + self.draw.below(3),
        };
        let subjects = (0..subjects).filter_map(|_| {
            let value = self.draw.one_of(&self.subjects)?.clone();
            Some(Subject { kind: 1, value })
        });
        let subjects: Vec<Subject> = subjects.collect();
        let case_number = if self.draw.happens(7_000) {
            format!("synthetic-case-{}", self.draw.below(self.entries / 4 + 1))
        } else {
            String::new()
        };
        let private = PrivatePart {
            subjects,
            operator: format!("synthetic-operator-{}-{operator}", client.agency),
            case_number,
            client_address: format!("192.0.2.{}", self.draw.below(256)),
            error_text: String::new(),
            peer: None,
        };
        let peer = if side == Side::Consumer { to } else { from };
        let entry = Entry {
            exchange: exchange.as_bytes().to_vec(),
            attempt: 1,
            side: side.into(),
            client: Some(client),
            provider: Some(Party {
                city: code(to),
                ..Party::default()
            }),
            method: format!("/{name}/{method}"),
            descriptor_digest: vec![u8::try_from(service).unwrap_or(0); 32],
            purpose: self
                .draw
                .one_of(&PURPOSES)
                .copied()
                .unwrap_or_default()
                .into(),
            basis: "statutory:synthetic".into(),
            decision: Some(Decision {
                grant_id: format!("synthetic-{}-{service}", code(to)),
                reason: 0,
                grant_set_digest: vec![7; 32],
                directory_version: 1,
            }),
            request: Some(self.direction()),
            ..Entry::default()
        };
        (entry, private, code(peer))
    }

    fn direction(&mut self) -> Direction {
        Direction {
            root: self.draw.bytes::<32>().to_vec(),
            count: 1,
            bytes: 64 + self.draw.skewed(8_000),
            complete: true,
            ..Direction::default()
        }
    }

    fn open(&mut self, time_us: i64) -> Append {
        let (mut entry, private, peer) = self.call(time_us);
        entry.kind = Kind::Open.into();
        // A millisecond to half a minute.
        let duration_us = 1_000 + i64::try_from(self.draw.skewed(30_000_000)).unwrap_or(0);
        self.ends.push(Reverse((
            time_us.saturating_add(duration_us),
            self.exchanges,
        )));
        self.pending.insert(
            self.exchanges,
            Pending {
                entry: entry.clone(),
                peer: peer.clone(),
                duration_us,
            },
        );
        self.exchanges += 1;
        let provider = entry.side() == Side::Provider;
        let append = Append::new(entry).with_private(private);
        let append = if provider {
            append.with(Effect::Claim {
                consumer: peer.clone(),
            })
        } else {
            append
        };
        append.with(Effect::Open { peer })
    }

    /// Ends the call whose end is next.
    fn end(&mut self) -> Append {
        let ended = self.ends.pop();
        let ended = ended.and_then(|Reverse((_, number))| self.pending.remove(&number));
        let Some(Pending {
            entry,
            peer,
            duration_us,
        }) = ended
        else {
            return self.admin();
        };
        let mut result = CallResult {
            duration_us: u64::try_from(duration_us).unwrap_or(0),
            ..CallResult::default()
        };
        let mut private = PrivatePart::default();
        match self.draw.below(1_000) {
            ..12 => {
                result.interrupted = true;
                result.status = 1;
                "client".clone_into(&mut result.closed_by);
            }
            12..22 => {
                result.status = 7;
                result.peer_reason = Reason::NotGranted.into();
            }
            22..60 => {
                if let Some((reason, status)) = self.draw.one_of(&FAILURES) {
                    result.reason = (*reason).into();
                    result.status = *status;
                    "synthetic-error".clone_into(&mut private.error_text);
                }
            }
            _ => {}
        }
        let provider = entry.side() == Side::Provider;
        let entry = Entry {
            kind: Kind::Close.into(),
            response: Some(self.direction()),
            result: Some(result),
            peer_receipt: if provider {
                self.draw.bytes::<32>().to_vec()
            } else {
                Vec::new()
            },
            ..entry
        };
        Append::new(entry)
            .with_private(private)
            .with(Effect::Close { peer })
    }

    fn refused(&mut self, time_us: i64) -> Append {
        let (mut entry, private, _) = self.call(time_us);
        entry.kind = Kind::Refused.into();
        let reason = self.draw.one_of(&REFUSALS).copied().unwrap_or_default();
        entry.decision = Some(Decision {
            reason: reason.into(),
            grant_set_digest: vec![7; 32],
            directory_version: 1,
            ..Decision::default()
        });
        Append::new(entry).with_private(private)
    }

    fn read(&mut self) -> Append {
        let auditor = self.draw.below(6);
        Append::new(Entry {
            kind: Kind::Read.into(),
            read: Some(Read {
                actor: format!("synthetic-auditor-{auditor}"),
                query: "search purpose=audit".into(),
                shown: self.draw.below(100),
            }),
            ..Entry::default()
        })
    }

    fn admin(&mut self) -> Append {
        let target = self.draw.below(50);
        Append::new(Entry {
            kind: Kind::Admin.into(),
            admin: Some(AdminChange {
                action: "put-grant".into(),
                actor: "synthetic-operator".into(),
                target: format!("synthetic-grant-{target}"),
                after: self.draw.bytes::<32>().to_vec(),
                ..AdminChange::default()
            }),
            ..Entry::default()
        })
    }
}

/// The systems of a city: first one of each agency, then the second of each, and so on.
fn clients_of((code, name): &(&str, &str), count: u32, draw: &mut Draw) -> Vec<Party> {
    (0..count)
        .map(|number| {
            let at = usize::try_from(number).unwrap_or(0);
            let agency = AGENCIES
                .get(at % AGENCIES.len())
                .copied()
                .unwrap_or_default();
            let system = SYSTEMS
                .get(at / AGENCIES.len() % SYSTEMS.len())
                .copied()
                .unwrap_or_default();
            // Beyond the first forty, numbers keep them apart.
            let more = at / (AGENCIES.len() * SYSTEMS.len());
            let system = match more {
                0 => system.to_owned(),
                more => format!("{system}-{more}"),
            };
            let agency = format!("synthetic-{agency}");
            Party {
                spiffe_id: format!("spiffe://{name}.jiaodong/{agency}/{system}"),
                city: (*code).to_owned(),
                agency,
                key_sha256: draw.bytes::<32>().to_vec(),
            }
        })
        .collect()
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
