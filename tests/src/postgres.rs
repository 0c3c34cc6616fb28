//! A throw-away Postgres server for tests: real binaries, fsync on, gone with the process that started it.
//!
//! A small shell script supervises the server and reads commands from a pipe; when the pipe closes, however the test
//! process ended, it stops the server and deletes its files. As root everything runs as the user `postgres`.

use anyhow::{Context, Result, bail, ensure};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// A server answers within this, or the test fails with its log.
const START_TIMEOUT: Duration = Duration::from_secs(30);

const SUPERVISOR: &str = r#"
bin=$1 dir=$2 port=$3 pid=
all() { cat "/proc/$pid/task/$pid/children" 2>/dev/null; echo "$pid"; }
end() { [ -n "$pid" ] && kill "$1" "$pid" 2>/dev/null && { kill -CONT $(all) 2>/dev/null; wait "$pid"; }; pid=; }
while read -r command; do
  case $command in
    start) end -KILL
      "$bin/postgres" -D "$dir/data" -p "$port" -k "$dir" -c listen_addresses=127.0.0.1 -c max_connections=200 \
        -c shared_buffers=128MB >>"$dir/log" 2>&1 & pid=$! ;;
    kill) kill -STOP "$pid"; killed=$(all); kill -KILL $killed; wait "$pid"; pid=
      for one in $killed; do while grep -q '^State:.[^ZX]' "/proc/$one/status" 2>/dev/null; do sleep 0.01; done; done ;;
    freeze) kill -STOP "$pid" $(all) ;;
    thaw) kill -CONT $(all) ;;
    stop) end -INT ;;
  esac
  echo done
done
end -QUIT
rm -rf "$dir"
"#;

/// A running server.
pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    port: u16,
    supervisor: Mutex<Supervisor>,
}

struct Supervisor {
    process: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Postgres {
    /// The server that the tests of one process share.
    ///
    /// # Panics
    /// Where no server can be started, with the reason.
    pub fn shared() -> &'static Postgres {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| Postgres::start().unwrap_or_else(|cause| panic!("no Postgres for this test: {cause:#}")))
    }

    /// A new cluster and its server, on a free port of the loopback and on a socket in its own directory.
    ///
    /// # Errors
    /// Where Postgres is not installed or does not start.
    pub fn start() -> Result<Postgres> {
        let bin = binaries()?;
        let user = unprivileged()?;
        let dir = directory(user)?;
        let mut initdb = command(&bin.join("initdb"), user);
        initdb.args(["-U", "postgres", "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]);
        let made = initdb.arg(dir.join("data")).output().context("run initdb")?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));
        let port = free_port()?;
        let supervisor = Mutex::new(Supervisor::spawn(&bin, &dir, port, user)?);
        let server = Postgres { bin, dir, port, supervisor };
        server.start_again()?;
        Ok(server)
    }

    /// URL of a database by loopback TCP.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// URL of a database by the Unix socket.
    pub fn socket_url(&self, database: &str) -> String {
        format!("postgresql:///{database}?host={}&port={}&user=postgres", self.dir.display(), self.port)
    }

    /// A new database whose name begins with `name`; gives its name.
    ///
    /// # Errors
    /// Where the server refuses.
    pub fn create(&self, name: &str) -> Result<String> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let database = format!("{name}_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE \"{database}\""))?;
        Ok(database)
    }

    /// Runs SQL as the superuser; gives unaligned rows.
    ///
    /// # Errors
    /// Where the server is away or refuses.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"]).arg(&self.dir);
        psql.args(["-p", &self.port.to_string(), "-d", database, "-c", sql]);
        let output = psql.stdin(Stdio::null()).output().context("run psql")?;
        ensure!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?.trim_end().to_owned())
    }

    /// Ends the server and every one of its processes with SIGKILL.
    ///
    /// # Errors
    /// Where the supervisor is gone.
    pub fn kill(&self) -> Result<()> {
        self.order("kill")
    }

    /// Stops every one of its processes with SIGSTOP: they hold what they hold and answer nothing.
    ///
    /// # Errors
    /// Where the supervisor is gone.
    pub fn freeze(&self) -> Result<()> {
        self.order("freeze")
    }

    /// Lets the server go on after [`Postgres::freeze`].
    ///
    /// # Errors
    /// Where the supervisor is gone.
    pub fn thaw(&self) -> Result<()> {
        self.order("thaw")
    }

    /// Stops the server as an administrator would.
    ///
    /// # Errors
    /// Where the supervisor is gone.
    pub fn stop(&self) -> Result<()> {
        self.order("stop")
    }

    /// Starts the server on the same files after [`Postgres::kill`] or [`Postgres::stop`].
    ///
    /// # Errors
    /// Where it does not answer in time.
    pub fn start_again(&self) -> Result<()> {
        let started = Instant::now();
        self.order("start")?;
        while self.psql("postgres", "SELECT 1").is_err() {
            if started.elapsed() > START_TIMEOUT {
                let log = std::fs::read_to_string(self.dir.join("log")).unwrap_or_default();
                bail!("Postgres did not start within {} s; its log:\n{log}", START_TIMEOUT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn order(&self, command: &str) -> Result<()> {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        let commands = supervisor.commands.as_mut().context("the server's supervisor is gone")?;
        writeln!(commands, "{command}").context("the server's supervisor is gone")?;
        let mut answer = String::new();
        supervisor.answers.read_line(&mut answer)?;
        ensure!(answer == "done\n", "the server's supervisor answered \"{answer}\"");
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let mut supervisor = self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        supervisor.commands = None;
        // It ends by itself once the pipe is closed; waiting makes sure that the files are gone.
        let _ = supervisor.process.wait();
    }
}

impl Supervisor {
    fn spawn(bin: &Path, dir: &Path, port: u16, user: Option<(u32, u32)>) -> Result<Self> {
        let mut shell = command(Path::new("sh"), user);
        shell.args(["-c", SUPERVISOR, "postgres-supervisor"]).args([bin, dir]).arg(port.to_string());
        // Ctrl-C in a terminal goes to the test process; this one follows by its pipe.
        shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = shell.spawn().context("run sh")?;
        let commands = process.stdin.take();
        let answers = BufReader::new(process.stdout.take().context("a pipe from sh")?);
        Ok(Supervisor { process, commands, answers })
    }
}

/// Where `initdb`, `postgres` and `psql` are: `POSTGRES_BIN`, Debian's place of the newest version, or the path.
fn binaries() -> Result<PathBuf> {
    let mut places: Vec<PathBuf> = std::env::var_os("POSTGRES_BIN").map(PathBuf::from).into_iter().collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let mut versions: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
        versions.sort();
        places.extend(versions.into_iter().rev());
    }
    places.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let complete = |place: &PathBuf| ["initdb", "postgres", "psql"].iter().all(|name| place.join(name).is_file());
    places.into_iter().find(complete).context(
        "Postgres is not installed: initdb, postgres and psql are neither in $POSTGRES_BIN, /usr/lib/postgresql/*/bin \
         nor $PATH (Debian: apt-get install postgresql)",
    )
}

/// Postgres refuses to run as root: then user and group to run it as.
fn unprivileged() -> Result<Option<(u32, u32)>> {
    let id = |args: &[&str]| -> Result<u32> {
        let output = Command::new("id").args(args).output().context("run id")?;
        ensure!(output.status.success(), "there is no user \"postgres\" to run Postgres as, which refuses to be root");
        Ok(String::from_utf8(output.stdout)?.trim().parse()?)
    };
    if id(&["-u"])? != 0 {
        return Ok(None);
    }
    Ok(Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?)))
}

fn command(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((user, group)) = user {
        command.uid(user).gid(group);
    }
    command
}

/// A new directory with a short path: the socket in it may have at most 107 bytes.
fn directory(user: Option<(u32, u32)>) -> Result<PathBuf> {
    let dir = tempfile::Builder::new().prefix("aitbc-pg-").tempdir_in("/tmp")?.keep();
    if let Some((user, group)) = user {
        chown(&dir, Some(user), Some(group))?;
    }
    Ok(dir)
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
