//! Medians and percentiles.

/// The value below which `percent` of the values lie, of some; zero of none.
pub(crate) fn percentile<T: Copy + Ord + Default>(values: &mut [T], percent: usize) -> T {
    if values.is_empty() {
        return T::default();
    }
    let index = (values.len() * percent / 100).min(values.len() - 1);
    *values.select_nth_unstable(index).1
}

/// What has the median of `key`, of an odd number of items the one in the middle; `None` of none.
pub(crate) fn median_by<T>(mut items: Vec<T>, key: impl Fn(&T) -> f64) -> Option<T> {
    items.sort_by(|a, b| key(a).total_cmp(&key(b)));
    let middle = items.len() / 2;
    (!items.is_empty()).then(|| items.swap_remove(middle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_the_median() {
        assert_eq!(percentile(&mut [5, 1, 3], 50), 3);
        assert_eq!(percentile::<u64>(&mut [], 50), 0);
        assert_eq!(median_by(vec![2.0, 9.0, 1.0], |v| *v), Some(2.0));
        assert_eq!(median_by(Vec::<f64>::new(), |v| *v), None);
    }

    #[test]
    fn one_in_a_hundred_is_above_the_99th_percentile() {
        let mut values: Vec<u32> = (0..100).rev().collect();
        assert_eq!(percentile(&mut values, 99), 99);
        assert_eq!(percentile(&mut values, 100), 99);
    }
}
