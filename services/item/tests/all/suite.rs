//! Every case on SQLite, one test each; and all of them on one PostgreSQL server, a database each.

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::{postgres::Postgres, scene::Scene};

async fn on_sqlite<F: Future<Output = ()>>(case: impl FnOnce(Scene) -> F) {
    let folder = TempDir::new().unwrap();
    let scene = Scene::open(&format!(
        "sqlite://{}",
        folder.path().join("item.db").display()
    ))
    .await;
    case(scene).await;
}

macro_rules! suite {
    ($($module:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                on_sqlite(crate::$module::$case).await;
            }
        )*

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn everything_holds_on_postgresql() {
            let Some(postgres) = Postgres::start() else { return };
            let mut cases: Vec<(&str, tokio::task::JoinHandle<()>)> = Vec::new();
            let tasks = tokio_util::task::TaskTracker::new();
            $(
                let url = postgres.create(&stringify!($case)[..40.min(stringify!($case).len())]);
                cases.push((stringify!($case), tasks.spawn(async move {
                    let scene = Scene::open(&url).await;
                    crate::$module::$case(scene).await;
                })));
            )*
            let (names, handles): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
            let outcomes = join_all(handles).await;
            let failed: Vec<_> =
                names.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_err()).collect();
            assert!(failed.is_empty(), "{failed:?}");
        }
    };
}

suite! {
    calendars::an_imported_year_is_counted_by_every_replica,
    calendars::a_faulty_calendar_is_not_stored,
}
