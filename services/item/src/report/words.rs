//! The words of reports, in both languages.

use super::Language;

/// A word.
pub(super) struct Word {
    chinese: &'static str,
    english: &'static str,
}

impl Word {
    pub(super) const fn of(&self, language: Language) -> &'static str {
        match language {
            Language::Chinese => self.chinese,
            Language::English => self.english,
        }
    }
}

const fn word(chinese: &'static str, english: &'static str) -> Word {
    Word { chinese, english }
}

pub(super) const KEYS: [Word; 7] = [
    word("月份", "month"),
    word("办理城市", "deciding city"),
    word("申请城市", "applied in"),
    word("事项编号", "item id"),
    word("事项", "item"),
    word("办理方式", "mode"),
    word("联办任务", "tasks of joint cases"),
];

pub(super) const LEVELS: [Word; 5] = [
    word("非常满意", "very satisfied"),
    word("满意", "satisfied"),
    word("基本满意", "fair"),
    word("不满意", "dissatisfied"),
    word("非常不满意", "very dissatisfied"),
];

pub(super) const TITLE: Word = word(
    "“一网通办”半年工作统计",
    "Items across cities: figures of the half-year",
);
pub(super) const SUBTITLE: Word = word(
    "胶东五市政务服务联席会议",
    "for the joint meeting of the five cities of Jiaodong",
);
pub(super) const PERIOD: Word = word("统计期间", "Period");
pub(super) const MADE: Word = word("制表日期", "Made on");
pub(super) const CITIES: Word = word("办理城市", "Deciding cities");
pub(super) const TOTAL: Word = word("合计", "Total");
pub(super) const ACROSS: Word = word("其中跨城办理", "Of these, applied in another city");
pub(super) const TASKS: Word = word(
    "另: 为外市联办的任务",
    "Besides: tasks of other cities' joint cases",
);
pub(super) const BY_MONTH: Word = word("按月", "By month");
pub(super) const BY_CITY: Word = word("按办理城市", "By deciding city");
pub(super) const BY_APPLIED: Word = word(
    "按申请城市 (评价按被评城市)",
    "By city of application (ratings by rated city)",
);
pub(super) const BY_DOMAIN: Word = word("按领域", "By domain");
pub(super) const BY_MODE: Word = word("按办理方式", "By mode");
pub(super) const BY_ITEM: Word = word("按事项", "By item");
pub(super) const CHART_MONTHS: Word = word(
    "各月申请与办结 (件)",
    "Submitted and concluded by month (cases)",
);
pub(super) const CHART_DOMAINS: Word = word("各领域申请 (件)", "Submitted by domain (cases)");
pub(super) const CHART_TIME: Word = word("各月按时办结率 (%)", "Decided in time by month (%)");
pub(super) const CHART_RATINGS: Word = word("好差评 (个)", "Ratings (count)");
pub(super) const AVERAGE: Word = word("平均工作日", "avg. working days");
pub(super) const ON_TIME_SHARE: Word = word("按时率", "in time");
pub(super) const SATISFIED_SHARE: Word = word("满意率", "satisfied");
pub(super) const RATINGS: Word = word("评价", "ratings");
pub(super) const NOTE: Word = word(
    "件数按事情发生的月份计。按时: 作出决定时各期限均未超过, 特别程序时间不计 (行政许可法第42、45、82条)。满意率: 基本满意及以上; 申诉成立的评价不计入。事项目录为示例目录, 非官方82项。",
    "Counts stand in the month in which things happened. In time: at the decision no limit had passed, special procedures not counted (行政许可法 art. 42, 45, 82). Satisfied: fair and better; ratings excluded after an appeal do not count. The catalogue is a demonstration list and not the official 82 items.",
);

const FIGURES: [(&str, Word); 24] = [
    ("submitted", word("申请", "submitted")),
    ("received", word("收件", "received")),
    ("accepted", word("受理", "accepted")),
    (
        "deemed_accepted",
        word("逾期视为受理", "accepted by silence"),
    ),
    ("not_accepted", word("不予受理", "not accepted")),
    ("granted", word("准予", "granted")),
    ("refused", word("不予", "refused")),
    ("concluded", word("办结", "concluded")),
    ("delivered", word("送达", "delivered")),
    ("on_time", word("按时决定", "decided in time")),
    ("late", word("逾期决定", "decided late")),
    ("workdays", word("工作日合计", "working days")),
    ("timed", word("计时件数", "timed decisions")),
    ("corrections", word("补正告知", "corrections")),
    ("extensions", word("延期", "extensions")),
    ("special_procedures", word("特别程序", "special procedures")),
    ("withdrawn", word("撤回", "withdrawn")),
    ("terminated", word("异常终止", "terminated")),
    ("yellow", word("黄牌", "yellow warnings")),
    ("red", word("红牌", "red warnings")),
    ("excluded_ratings", word("申诉剔除评价", "excluded ratings")),
    ("rectifications", word("差评整改", "rectifications")),
    ("rectified", word("整改办结", "rectified")),
    (
        "overdue_rectifications",
        word("整改逾期", "overdue rectifications"),
    ),
];

/// The name of a figure.
pub(super) fn figure(name: &str, language: Language) -> &'static str {
    let known = FIGURES.iter().find(|(key, _)| *key == name);
    known.map_or("", |(_, word)| word.of(language))
}

const DOMAINS: [(&str, Word); 13] = [
    ("archives", word("档案", "Archives")),
    ("civil_affairs", word("民政", "Civil affairs")),
    ("disability", word("残联", "Disability")),
    (
        "ecology_environment",
        word("生态环境", "Ecology and environment"),
    ),
    ("housing_fund", word("住房公积金", "Housing fund")),
    (
        "human_resources_social_security",
        word("人力资源社会保障", "Human resources, social security"),
    ),
    ("justice", word("司法行政", "Justice")),
    ("market_regulation", word("市场监管", "Market regulation")),
    ("medical_insurance", word("医疗保障", "Medical insurance")),
    ("natural_resources", word("自然资源", "Natural resources")),
    ("public_security", word("公安", "Public security")),
    ("tax", word("税务", "Tax")),
    ("other", word("其他", "Other")),
];

/// The name of a domain; one that a city made itself stays as it is.
pub(super) fn domain(key: &str, language: Language) -> &str {
    let known = DOMAINS.iter().find(|(domain, _)| *domain == key);
    known.map_or(key, |(_, word)| word.of(language))
}

const MODES: [(&str, Word); 3] = [
    ("FULLY_ONLINE", word("全程网办", "fully online")),
    ("PROXY_COLLECTION", word("异地代收代办", "proxy collection")),
    ("JOINT_HANDLING", word("多地联办", "joint handling")),
];

/// The name of a mode.
pub(super) fn mode(key: &str, language: Language) -> &str {
    let known = MODES.iter().find(|(mode, _)| *mode == key);
    known.map_or(key, |(_, word)| word.of(language))
}

pub(super) const fn yes_or_no(yes: bool, language: Language) -> &'static str {
    match (yes, language) {
        (true, Language::Chinese) => "是",
        (false, Language::Chinese) => "否",
        (true, Language::English) => "yes",
        (false, Language::English) => "no",
    }
}

/// The English name of a city of the network or a guest.
pub(super) fn city(code: &str) -> Option<&'static str> {
    Some(match code {
        "370200" => "Qingdao",
        "370600" => "Yantai",
        "370700" => "Weifang",
        "371000" => "Weihai",
        "371100" => "Rizhao",
        "370500" => "Dongying",
        "371600" => "Binzhou",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    #[test]
    fn every_figure_has_a_name_in_both_languages() {
        let counts = Figures::default().counts();
        assert_eq!(counts.len(), FIGURES.len());
        for (name, _) in counts {
            assert!(!figure(name, Language::Chinese).is_empty(), "{name}");
            assert!(figure(name, Language::English).is_ascii(), "{name}");
        }
    }
}
