//! Work over many files on a few threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Threads at most: beyond a few, the disk is the limit, and the services on the host need the rest.
const THREADS_MAX: usize = 4;

/// Does `work` for each of the numbers below `count`, and returns the results in their order. The
/// first error ends it.
pub(super) fn map<T: Send, E: Send>(
    count: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let threads =
        thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(count);
    let next = AtomicUsize::new(0);
    let done = Mutex::new((Vec::with_capacity(count), None));
    let worker = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return;
            }
            let result = work(index);
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(value) => done.0.push((index, value)),
                Err(error) => {
                    next.store(count, Ordering::Relaxed);
                    done.1.get_or_insert(error);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(worker);
        }
        worker();
    });
    let (mut results, error) = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = error {
        return Err(error);
    }
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, value)| value).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn results_are_in_order_and_an_error_ends_it() {
        let squares = super::map(100, |n| Ok::<_, ()>(n * n)).unwrap();
        assert_eq!(squares, (0..100).map(|n| n * n).collect::<Vec<_>>());
        assert_eq!(super::map(100, |n| if n == 50 { Err(n) } else { Ok(()) }), Err(50));
        assert_eq!(super::map(0, |_| Ok::<_, ()>(())), Ok(vec![]));
    }
}
