//! The thread that is the spawner's parent. The kernel kills the spawner when this *thread* ends, so it lives as
//! long as the server, and whoever starts a spawner asks it.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;

use tokio::sync::oneshot;

use crate::spawner::ARGUMENT;
use crate::transport;

/// A started spawner.
pub(super) struct Started {
    /// The server's end of its socket.
    pub(super) socket: OwnedFd,
    /// Resolves when it has ended and has been reaped.
    pub(super) ended: oneshot::Receiver<()>,
}

type Order = oneshot::Sender<io::Result<Started>>;

/// The handle of the thread, which ends when this is dropped and its spawner has ended.
#[derive(Debug)]
pub(super) struct Keeper {
    orders: mpsc::Sender<Order>,
}

impl Keeper {
    /// Starts the thread.
    pub(super) fn start(exe: PathBuf) -> io::Result<Self> {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::Builder::new().name("impuls-keeper".to_owned()).spawn(move || {
            for order in inbox {
                keep_one(&exe, order);
            }
        })?;
        Ok(Self { orders })
    }

    /// Starts a spawner, once the one before has ended.
    pub(super) async fn spawn(&self) -> io::Result<Started> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let (order, started) = oneshot::channel();
        self.orders.send(order).map_err(|_| gone())?;
        started.await.map_err(|_| gone())?
    }
}

fn keep_one(exe: &PathBuf, order: Order) {
    let started = transport::pair().and_then(|(ours, theirs)| {
        let child = Command::new(exe)
            .arg0("impuls-spawner")
            .arg(ARGUMENT)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .spawn()?;
        Ok((ours, child))
    });
    match started {
        Ok((socket, mut child)) => {
            let (end, ended) = oneshot::channel();
            let _nobody_waits = order.send(Ok(Started { socket, ended }));
            let _reaped = child.wait();
            let _nobody_waits = end.send(());
        }
        Err(error) => {
            let _nobody_waits = order.send(Err(error));
        }
    }
}
