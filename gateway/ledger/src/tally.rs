//! Counts of what has no entry of its own, on their way into SUMMARY entries.

use std::collections::BTreeMap;

use banqiao_directory::SpiffeId;
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{Entry, Kind, Summary, SummaryCount},
};
use parking_lot::Mutex;

use crate::append::Append;

/// Different pairs of reason and client that are told apart. Further clients are counted under their reason alone.
const MAX_KEYS: usize = 1_024;
/// Bytes of counts in one entry; an entry holds at most 65,535.
const MAX_COUNT_BYTES: usize = 48 * 1_024;

/// The counts of one kind of SUMMARY entry.
#[derive(Debug)]
pub(crate) struct Tally {
    gap: bool,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    from_us: i64,
    until_us: i64,
    counts: BTreeMap<(i32, Option<SpiffeId>), u64>,
}

impl Tally {
    /// Counts of refusals, or, with `gap`, of refusals while the ledger could not be written.
    pub(crate) fn new(gap: bool) -> Self {
        Self {
            gap,
            counts: Mutex::default(),
        }
    }

    /// Counts one.
    pub(crate) fn count(&self, reason: Reason, client: Option<&SpiffeId>, now_us: i64) {
        let mut guard = self.counts.lock();
        let counts = &mut *guard;
        if counts.counts.is_empty() {
            counts.from_us = now_us;
        }
        counts.until_us = now_us;
        let key = (i32::from(reason), client.cloned());
        if let Some(count) = counts.counts.get_mut(&key) {
            *count += 1;
        } else if counts.counts.len() < MAX_KEYS {
            counts.counts.insert(key, 1);
        } else {
            // One further key per reason at most: the reasons are few.
            *counts.counts.entry((key.0, None)).or_default() += 1;
        }
    }

    /// Takes the counts as SUMMARY entries. What is counted from now on goes into later ones.
    pub(crate) fn take(&self) -> Vec<Append> {
        let taken = std::mem::take(&mut *self.counts.lock());
        let mut entries = Vec::new();
        let mut counts = Vec::new();
        let mut bytes = 0;
        for ((reason, client), count) in taken.counts {
            let client = client
                .map(|client| client.as_str().to_owned())
                .unwrap_or_default();
            if bytes + client.len() + 32 > MAX_COUNT_BYTES {
                entries.push(std::mem::take(&mut counts));
                bytes = 0;
            }
            bytes += client.len() + 32;
            counts.push(SummaryCount {
                reason,
                client,
                count,
            });
        }
        if !counts.is_empty() {
            entries.push(counts);
        }
        let summary = |counts| Summary {
            from_us: taken.from_us,
            until_us: taken.until_us,
            counts,
            gap: self.gap,
        };
        entries
            .into_iter()
            .map(|counts| {
                Append::new(Entry {
                    kind: Kind::Summary.into(),
                    summary: Some(summary(counts)),
                    ..Entry::default()
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u32) -> SpiffeId {
        format!(
            "spiffe://yantai.jiaodong/hospital/{number}-{}",
            "x".repeat(1_900)
        )
        .parse()
        .unwrap()
    }

    fn total(entries: &[Append]) -> u64 {
        let summaries = entries
            .iter()
            .filter_map(|append| append.entry.summary.as_ref());
        summaries
            .flat_map(|summary| &summary.counts)
            .map(|count| count.count)
            .sum()
    }

    #[test]
    fn nothing_counted_makes_no_entry() {
        assert!(Tally::new(false).take().is_empty());
    }

    #[test]
    fn every_count_is_in_one_entry_and_each_entry_is_bounded() {
        let tally = Tally::new(true);
        for number in 0..2_000 {
            tally.count(Reason::ClientBusy, Some(&client(number)), i64::from(number));
        }
        tally.count(Reason::Overloaded, None, 5_000);
        let entries = tally.take();
        assert_eq!(total(&entries), 2_001);
        for append in &entries {
            let summary = append.entry.summary.as_ref().unwrap();
            assert_eq!(
                (summary.from_us, summary.until_us, summary.gap),
                (0, 5_000, true)
            );
            assert!(prost::Message::encoded_len(summary) < 60_000);
        }
        assert!(tally.take().is_empty());
    }
}
