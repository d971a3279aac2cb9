//! Every case of transfers on SQLite, one test each; and all of them on one PostgreSQL server, two databases each.

use futures_util::future::join_all;
use tempfile::TempDir;

use crate::{pension_scene::Cities, postgres::Postgres};

async fn on_sqlite<F: Future<Output = ()>>(case: impl FnOnce(Cities) -> F) {
    let folder = TempDir::new().unwrap();
    let url = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let cities = Cities::open(&url("new.db"), &url("old.db")).await;
    case(cities).await;
}

macro_rules! pension_suite {
    ($($module:ident::$case:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                on_sqlite(crate::$module::$case).await;
            }
        )*

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn every_transfer_holds_on_postgresql() {
            let Some(postgres) = Postgres::start() else { return };
            let mut cases: Vec<(&str, tokio::task::JoinHandle<()>)> = Vec::new();
            let tasks = tokio_util::task::TaskTracker::new();
            $(
                let name = stringify!($case);
                let number = cases.len();
                let urls = ["new", "old"].map(|side| postgres.create(&format!("{side}_{number}")));
                cases.push((name, tasks.spawn(async move {
                    let cities = Cities::open(&urls[0], &urls[1]).await;
                    crate::$module::$case(cities).await;
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

pension_suite! {
    pension_process::a_transfer_takes_its_steps_across_spring_festival,
    pension_process::step_four_begins_when_table_and_funds_have_both_arrived,
    pension_process::inside_a_pooled_scheme_the_limit_begins_with_the_table_alone,
    pension_process::the_age_rule_gives_a_temporary_account,
    pension_process::tables_that_do_not_add_up_are_refused_with_the_difference,
    pension_process::the_insured_withdraws_while_the_relation_has_not_left,
    pension_process::a_refusal_is_explained_and_ends_both_sides,
    pension_process::a_year_that_is_not_loaded_is_flagged_and_never_guessed,
    pension_process::limits_turn_yellow_and_red,
    pension_process::a_city_that_is_down_delays_a_document_and_loses_none,
    pension_process::of_decisions_at_once_one_wins,
    pension_process::each_city_decides_about_its_own_side,
    pension_process::the_insured_watches_and_goes_on_after_a_cursor,
    pension_process::the_history_of_transfers_cannot_be_rewritten,
    pension_model::random_cities_agree_with_a_model,
}
