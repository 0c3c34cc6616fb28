//! Databases to open, and votes, blocks and batches to put in.

use aitbc_core::batch::Batch;
use aitbc_core::block::{Candidate, Header};
use aitbc_core::evidence::Class;
use aitbc_core::hash::{Hash, plain};
use aitbc_core::key::{Address, PublicKey, SecretKey, Signature};
use aitbc_core::receipt::{Receipt, Text};
use aitbc_core::record::{Record, RecordChange, RecordKey};
use aitbc_core::supply::Supply;
use aitbc_core::transaction::{Action, Payment, SignedTransaction, Transaction};
use aitbc_core::vote::{Cert, Kind, Statement, Vote};
use aitbc_node::metrics::Metrics;
use aitbc_node::storage::{
    BatchWrite, BlockWrite, Owner, ReceiptRow, Result, StateWrite, Storage, StoredBlock, TransactionRow, VoteWrite,
    open_within,
};
use aitbc_tests::postgres::Postgres;
use sqlx::{AssertSqlSafe, Connection};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Where a test's database is.
pub enum Site {
    Sqlite(TempDir),
    Postgres(&'static Postgres, String),
}

impl Site {
    pub fn sqlite() -> Site {
        Site::Sqlite(tempfile::tempdir().expect("a directory"))
    }

    pub fn postgres() -> Site {
        let server = Postgres::shared();
        Site::Postgres(server, server.create("storage").expect("a database"))
    }

    pub fn url(&self) -> String {
        match self {
            Site::Sqlite(dir) => format!("sqlite:///{}/blockchain.db", dir.path().display()),
            Site::Postgres(server, database) => server.url(database),
        }
    }

    pub async fn try_open(&self, owner: Owner) -> Result<Arc<dyn Storage>> {
        open_within(&self.url(), owner, metrics(), Duration::ZERO).await
    }

    pub async fn open(&self) -> Arc<dyn Storage> {
        self.try_open(owner()).await.expect("opens")
    }

    /// Opened, with the lease taken and genesis in the state.
    pub async fn ready(&self) -> Arc<dyn Storage> {
        let storage = self.open().await;
        storage.take_lease("test".to_owned()).await.expect("takes the lease");
        storage.reset_state(state(0)).await.expect("writes genesis");
        storage
    }

    /// Name of a table of the ledger.
    pub fn ledger(&self, table: &str) -> String {
        match self {
            Site::Sqlite(_) => table.to_owned(),
            Site::Postgres(..) => format!("ledger.{table}"),
        }
    }

    /// Runs SQL on the ledger's database, as its owner might.
    pub async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Site::Sqlite(dir) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("blockchain.db"));
                let mut file = sqlx::SqliteConnection::connect_with(&options).await.expect("opens");
                sqlx::raw_sql(sql).execute(&mut file).await.expect("runs");
            }
            Site::Postgres(..) => {
                let mut server = sqlx::PgConnection::connect(&self.url()).await.expect("connects");
                sqlx::raw_sql(sql).execute(&mut server).await.expect("runs");
            }
        }
    }

    /// A number out of the ledger's database.
    pub async fn number(&self, sql: &str) -> i64 {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Site::Sqlite(dir) => {
                let options = sqlx::sqlite::SqliteConnectOptions::new().filename(dir.path().join("blockchain.db"));
                let mut file = sqlx::SqliteConnection::connect_with(&options).await.expect("opens");
                sqlx::query_scalar(sql).fetch_one(&mut file).await.expect("a number")
            }
            Site::Postgres(..) => {
                let mut server = sqlx::PgConnection::connect(&self.url()).await.expect("connects");
                sqlx::query_scalar(sql).fetch_one(&mut server).await.expect("a number")
            }
        }
    }
}

pub fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new().expect("metrics"))
}

pub fn key() -> SecretKey {
    SecretKey::from_seed([7; 32])
}

pub fn chain() -> Hash {
    plain(b"storage tests")
}

pub fn owner() -> Owner {
    Owner { chain: chain(), key: Some(key().public()) }
}

pub fn digest(slot: u64) -> Hash {
    header(slot, slot, Vec::new()).digest()
}

pub fn vote(kind: Kind, slot: u64) -> Vote {
    let digest = if kind == Kind::Skip { Hash::ZERO } else { digest(slot) };
    Vote::sign(Statement { epoch: 0, slot, kind, digest }, &chain(), 2, &key())
}

/// Notar comes with its candidate, Final with its certificate.
pub fn vote_write(kind: Kind, slot: u64) -> VoteWrite {
    VoteWrite {
        vote: vote(kind, slot),
        candidate: (kind == Kind::Notar).then(|| candidate(header(slot, slot, Vec::new()))),
        cert: (kind == Kind::Final).then(|| cert(Kind::Notar, slot)),
    }
}

pub fn cert(kind: Kind, slot: u64) -> Cert {
    let statement = vote(kind, slot).statement;
    Cert { statement, signers: vec![0b111], signatures: vec![vote(kind, slot).signature; 3] }
}

pub fn header(slot: u64, height: u64, batches: Vec<&Batch>) -> Header {
    Header {
        version: aitbc_core::block::VERSION,
        epoch: 0,
        slot,
        height,
        parent_slot: slot.saturating_sub(1),
        parent: plain(&height.to_le_bytes()),
        parent_state_root: plain(b"state"),
        parent_results_root: plain(b"results"),
        time_ms: 1_000 * height,
        proposer: 1,
        set_hash: plain(b"set"),
        next_set_hash: plain(b"set"),
        batches: batches.into_iter().map(|batch| batch.reference(batch.digest())).collect(),
        evidence: Vec::new(),
    }
}

pub fn candidate(header: Header) -> Candidate {
    Candidate { header, signature: Signature([9; 64]) }
}

/// Transactions as they come, signed with nothing: storage does not look.
pub fn batch(seq: u64, expiry_height: u64, txs: usize) -> Batch {
    let payment = Payment { to: address(seq), amount: 1 };
    let transaction =
        Transaction { sender: key().public(), nonce: seq, fee: 1, expiry_height, action: Action::Transfer(payment) };
    let tx = SignedTransaction { transaction, signature: Signature([3; 64]) };
    Batch { epoch: 0, author: 1, seq, expiry_height, txs: vec![tx; txs], signature: Signature([5; 64]) }
}

pub fn batch_write(batch: &Batch) -> BatchWrite {
    BatchWrite { digest: batch.digest(), batch: Arc::new(batch.clone()) }
}

pub fn block_write(header: Header, cert: Option<Cert>) -> BlockWrite {
    BlockWrite { digest: header.digest(), candidate: candidate(header), cert }
}

pub fn address(number: u64) -> Address {
    let mut bytes = [0; 20];
    bytes.copy_from_slice(&plain(&number.to_le_bytes()).0[..20]);
    Address(bytes)
}

pub fn transaction_row(height: u64, index: u32) -> TransactionRow {
    let number = height * 1_000_000 + u64::from(index);
    TransactionRow {
        id: plain(&number.to_le_bytes()),
        height,
        index,
        code: (index % 3) as u16,
        sender: address(u64::from(index % 7)),
        nonce: number,
        batch: plain(b"batch"),
    }
}

/// A receipt of one of two providers, who both call receipt and job by the height.
pub fn receipt_row(height: u64, provider: u8) -> ReceiptRow {
    let key = SecretKey::from_seed([90 + provider; 32]);
    let name = |kind: &str| Text::new(&format!("{kind} {height}")).expect("a name");
    let receipt = Receipt::required(
        (name("receipt"), name("job")),
        key.public(),
        address(5),
        (7, Text::new("gpu_seconds").expect("a name")),
        (1, 2),
    );
    let attested = receipt.attest(&plain(b"chain"), &key, &[&SecretKey::from_seed([80; 32])]);
    ReceiptRow { height, index: provider.into(), time_ms: height * 1_000, minted: 70, attested }
}

pub fn record(n: u64) -> RecordChange {
    let key = RecordKey::Evidence { key: PublicKey([7; 32]), epoch: n, class: Class::Notars };
    (key, Some(Record::Evidence { slot: n, height: n }))
}

/// A record of each kind that receipts and escrows leave, with and without a provider, in the order of their keys; `n` is in
/// every value.
pub fn receipt_records(n: u64) -> Vec<RecordChange> {
    let receipt = Record::Receipt { digest: plain(&n.to_le_bytes()), height: n, minted: n };
    let cap = || Some(Record::ReceiptCap { epoch: n, minted: n });
    let escrow = |provider| {
        let amount = if provider == Some(address(2)) { 0 } else { n };
        Some(Record::Escrow { client: address(1), provider, amount, timeout_height: n })
    };
    vec![
        (RecordKey::Supply, Some(Record::Supply(Supply { minted: n, burnt: n }))),
        (RecordKey::Receipt { nullifier: plain(b"receipt") }, Some(receipt)),
        (RecordKey::ReceiptCap { provider: None }, cap()),
        (RecordKey::ReceiptCap { provider: Some(address(3)) }, cap()),
        (RecordKey::Escrow { job: Hash([1; 32]) }, escrow(Some(address(2)))),
        (RecordKey::Escrow { job: Hash([2; 32]) }, escrow(None)),
    ]
}

/// Seven accounts, two transactions and a record at a height.
pub fn state(height: u64) -> StateWrite {
    StateWrite {
        height,
        state_root: plain(&[height as u8, 1]),
        results_root: plain(&[height as u8, 2]),
        accounts: (0..7).map(|n| (address(n), 1_000 - height, height)).collect(),
        records: vec![record(height)],
        transactions: if height == 0 { Vec::new() } else { (0..2).map(|i| transaction_row(height, i)).collect() },
        receipts: Vec::new(),
    }
}

pub fn sorted(mut state: StateWrite) -> Vec<(Address, u64, u64)> {
    state.accounts.sort();
    state.accounts
}

/// What is compared of a stored block.
pub fn facts(block: &StoredBlock) -> (Hash, Candidate, Option<Cert>) {
    (block.digest, block.candidate.clone(), block.cert.clone())
}
