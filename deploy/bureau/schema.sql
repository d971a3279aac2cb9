-- A sample of a social-security bureau's tables, with the field names of 人力资源社会保障 where they are known. After each column:
-- what it holds, and how certain its name is (Q read in a public source, M standard knowledge not read again, D this project's own).
-- A real bureau keeps its tables as they are and writes a view like the last one.
CREATE SCHEMA hrss;

CREATE TABLE hrss.ac01 (                                    -- 个人基本信息 (M)
    aac001 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- 个人编号 (M)
    aac002 varchar(18) NOT NULL UNIQUE,                     -- 社会保障号码 (M)
    aac003 varchar(200) NOT NULL DEFAULT '',                -- 姓名 (M); empty where only the number is known
    aae036 timestamp NOT NULL DEFAULT now()                 -- 经办时间 (M)
);

CREATE TABLE hrss.card_base (                               -- 持卡信息 (D)
    aaz500 varchar(32) PRIMARY KEY,                         -- 社会保障卡卡号 (M)
    aac001 bigint NOT NULL REFERENCES hrss.ac01,            -- 个人编号 (M)
    aaz501 varchar(32) NOT NULL UNIQUE,                     -- 卡识别码 (M)
    aaz502 char(1) NOT NULL,                                -- 卡应用状态 (Q; its codes were not found, those of the mapping are D)
    bank_state char(1) NOT NULL,                            -- 金融功能状态 (D)
    ecard boolean NOT NULL,                                 -- 已签发电子社保卡 (D)
    aab301 varchar(12) NOT NULL,                            -- 行政区划 (M)
    aae030 char(8) NOT NULL,                                -- 开始日期: 发卡日期, YYYYMMDD (M)
    aae031 char(8) NOT NULL,                                -- 终止日期: 卡有效期, YYYYMMDD (M)
    card_version varchar(16),                               -- 规范版本 (D)
    aae036 timestamp NOT NULL DEFAULT now()                 -- 经办时间 (M)
);

CREATE INDEX card_base_person ON hrss.card_base (aac001);

-- What the card service reads: one row a card. A join over keys keeps the indexes of both tables usable.
CREATE VIEW hrss.card_for_network AS
SELECT k.aaz500, k.aaz501, p.aac002, p.aac003, k.aab301, k.aae030, k.aae031, k.aaz502, k.bank_state, k.ecard, k.card_version
FROM hrss.card_base k
JOIN hrss.ac01 p ON p.aac001 = k.aac001;

CREATE TABLE hrss.ac02 (                                    -- 个人参保信息 (M)
    aac001 bigint NOT NULL REFERENCES hrss.ac01,            -- 个人编号 (M)
    aae140 char(3) NOT NULL,                                -- 险种类型 (M; codes M)
    aab301 varchar(12) NOT NULL,                            -- 行政区划: 参保地 (M)
    aae030 char(8) NOT NULL,                                -- 开始日期, YYYYMMDD (M)
    aae031 char(8),                                         -- 终止日期, YYYYMMDD (M)
    aac008 char(1) NOT NULL,                                -- 人员参保状态 (M; codes D)
    aae116 char(1) NOT NULL,                                -- 待遇发放状态 (M; codes D)
    suspended_from date,                                    -- 暂停联网结算起 (D)
    suspended_until date,                                   -- 暂停联网结算止 (D)
    recorded_as_of date NOT NULL,                           -- 数据日期 (D)
    aae036 timestamp NOT NULL DEFAULT now(),                -- 经办时间 (M)
    PRIMARY KEY (aac001, aae140, aae030)
);

-- What the card service reads of insured persons: one row a period. A real view leaves out schemes that the network does not ask for.
CREATE VIEW hrss.insurance_for_network AS
SELECT p.aac002, i.aae140, i.aab301, i.aae030, i.aae031, i.aac008, i.aae116, i.suspended_from, i.suspended_until, i.recorded_as_of
FROM hrss.ac02 i
JOIN hrss.ac01 p ON p.aac001 = i.aac001;

CREATE TABLE hrss.payee (                                   -- 待遇发放 (D)
    aac001 bigint NOT NULL REFERENCES hrss.ac01,            -- 个人编号 (M)
    aae140 char(3) NOT NULL,                                -- 险种类型 (M; codes M)
    aae116 char(1) NOT NULL,                                -- 待遇发放状态 (M; codes D)
    not_paid_from date,                                     -- 暂停或停发起始日期 (D)
    check_due char(8) NOT NULL,                             -- 下次核查日期, YYYYMMDD (D)
    aae036 timestamp NOT NULL DEFAULT now(),                -- 经办时间 (M)
    PRIMARY KEY (aac001, aae140)
);

-- What the card service reads of the people whom the city pays: one row a person and scheme. A real view makes the day by which a check is
-- due from what its table has, such as twelve months after the last check, and then set_due_days writes that.
CREATE VIEW hrss.payment_for_network AS
SELECT p.aac002, b.aae140, b.aae116, b.not_paid_from, b.check_due
FROM hrss.payee b
JOIN hrss.ac01 p ON p.aac001 = b.aac001;
