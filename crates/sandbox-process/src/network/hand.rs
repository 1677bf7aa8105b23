//! A thread that carries out jobs which block, in turn.

use std::io;
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

type Job<T> = Box<dyn FnOnce(&mut T) + Send>;

/// The handle of the thread, which ends when the last handle is dropped and all jobs are done.
#[derive(Debug)]
pub(super) struct Hand<T> {
    jobs: mpsc::Sender<Job<T>>,
}

impl<T> Clone for Hand<T> {
    fn clone(&self) -> Self {
        Self { jobs: self.jobs.clone() }
    }
}

impl<T: 'static> Hand<T> {
    /// Starts the thread, which makes its own tool.
    pub(super) fn start(
        name: &str,
        tool: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<Self> {
        // Unbounded, but a sandbox has at most two jobs here and its questions are bounded.
        let (jobs, inbox) = mpsc::channel::<Job<T>>();
        let (ready, started) = mpsc::channel();
        thread::Builder::new().name(name.to_owned()).spawn(move || match tool() {
            Ok(mut tool) => {
                let _nobody_waits = ready.send(Ok(()));
                for job in inbox {
                    job(&mut tool);
                }
            }
            Err(error) => {
                let _nobody_waits = ready.send(Err(error));
            }
        })?;
        started.recv().map_err(io::Error::other)??;
        Ok(Self { jobs })
    }

    /// Has a job done and waits for it. Dropped half-way, the job is done all the same.
    pub(super) async fn ask<R: Send + 'static>(
        &self,
        job: impl FnOnce(&mut T) -> R + Send + 'static,
    ) -> io::Result<R> {
        let (sender, result) = oneshot::channel();
        self.post(move |tool| {
            let _nobody_waits = sender.send(job(tool));
        });
        result.await.map_err(io::Error::other)
    }

    /// Has a job done, some time.
    pub(super) fn post(&self, job: impl FnOnce(&mut T) + Send + 'static) {
        let _thread_gone = self.jobs.send(Box::new(job));
    }
}
