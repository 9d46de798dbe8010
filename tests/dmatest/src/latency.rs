//! Latencies: how many requests took how long.

use std::time::Duration;

use serde::Serialize;

/// Parts of each power of two: a bucket is at most an eighth wide of what it starts with.
const PARTS: u64 = 8;

/// A histogram of latencies from 1 µs on, with buckets that widen with the latency.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    buckets: Vec<u64>,
    count: u64,
    least: Option<Duration>,
    most: Duration,
}

/// What a histogram says, in µs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// The shortest.
    pub least_us: f64,
    /// Half of them were not longer, up to an eighth.
    pub median_us: f64,
    /// 99 of 100 were not longer, up to an eighth.
    pub percentile_99_us: f64,
    /// The longest.
    pub most_us: f64,
    /// How many took less than so many µs and not less than the entry before: powers of two.
    pub histogram: Vec<(u64, u64)>,
}

impl Latencies {
    /// Counts a request.
    pub fn add(&mut self, latency: Duration) {
        let index = index(u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        if index >= self.buckets.len() {
            self.buckets.resize(index + 1, 0);
        }
        self.buckets[index] += 1;
        self.count += 1;
        self.least = Some(self.least.map_or(latency, |least| least.min(latency)));
        self.most = self.most.max(latency);
    }

    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (count, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *count += more;
        }
        self.count += other.count;
        self.least = self.least.into_iter().chain(other.least).min();
        self.most = self.most.max(other.most);
    }

    /// What it says; `None` of nothing.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let microseconds = |time: Duration| time.as_secs_f64() * 1e6;
        let most = microseconds(self.most);
        let quantile = |share: f64| (self.quantile(share) as f64).min(most);
        self.least.map(|least| Summary {
            least_us: microseconds(least),
            median_us: quantile(0.5),
            percentile_99_us: quantile(0.99),
            most_us: most,
            histogram: self.powers_of_two(),
        })
    }

    /// The end of the bucket in which the request at this share of all stands.
    fn quantile(&self, share: f64) -> u64 {
        let rank = (share * self.count as f64).ceil() as u64;
        let mut seen = 0;
        let found = self.buckets.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        end(found.unwrap_or_default())
    }

    fn powers_of_two(&self) -> Vec<(u64, u64)> {
        let mut rows: Vec<(u64, u64)> = Vec::new();
        for (index, count) in self.buckets.iter().enumerate() {
            let bound = (end(index) - 1).max(1).checked_ilog2().unwrap_or_default() + 1;
            let bound = 1_u64.checked_shl(bound).unwrap_or(u64::MAX);
            match rows.last_mut() {
                Some((last, total)) if *last == bound => *total += count,
                _ => rows.push((bound, *count)),
            }
        }
        rows.drain(..rows.iter().take_while(|(_, count)| *count == 0).count());
        rows
    }
}

/// The bucket of so many µs.
fn index(us: u64) -> usize {
    let power = u64::from((us | PARTS).ilog2() - PARTS.ilog2());
    (power * PARTS + (us >> power)) as usize
}

/// The first µs after a bucket.
fn end(index: usize) -> u64 {
    let index = index as u64 + 1;
    match (index / PARTS).checked_sub(1) {
        None | Some(0) => index,
        Some(power) => (index % PARTS + PARTS)
            .checked_shl(power as u32)
            .unwrap_or(u64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_latency_lies_in_its_bucket_and_buckets_are_narrow() {
        for us in (0..10_000).chain([1 << 30, (1 << 40) + 12345]) {
            let index = index(us);
            let start = index.checked_sub(1).map_or(0, end);
            assert!(
                (start..end(index)).contains(&us),
                "{us}: {start}..{}",
                end(index)
            );
            assert!(end(index) - start <= 1 + us / PARTS, "{us}");
        }
    }

    #[test]
    fn quantiles_and_rows_are_of_all_threads() {
        let (mut one, mut other) = (Latencies::default(), Latencies::default());
        assert_eq!(one.summary(), None);
        (0..99).for_each(|_| one.add(Duration::from_micros(100)));
        other.add(Duration::from_millis(50));
        one.merge(&other);
        let summary = one.summary().expect("100 requests");
        assert_eq!((summary.least_us, summary.most_us), (100.0, 50_000.0));
        assert!((100.0..=113.0).contains(&summary.median_us), "{summary:?}");
        assert!((100.0..=113.0).contains(&summary.percentile_99_us));
        let first = summary.histogram.first();
        let last = summary.histogram.last();
        assert_eq!((first, last), (Some(&(128, 99)), Some(&(65_536, 1))));
    }
}
