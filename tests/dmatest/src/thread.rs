//! Threads of the operating system.

use std::thread;

/// Runs `work` on a thread for each of `items`, with its number, and returns the results in their order.
///
/// # Panics
/// If `work` does.
pub(crate) fn in_parallel<I, T>(items: Vec<I>, work: impl Fn(usize, &I) -> T + Sync) -> Vec<T>
where
    I: Send,
    T: Send,
{
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = items
            .into_iter()
            .enumerate()
            .map(|(index, item)| scope.spawn(move || work(index, &item)))
            .collect();
        threads
            .into_iter()
            .map(|thread| {
                thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect()
    })
}
