"""The audit message types by name, and libaudit's rule for which of them ends an event.

Source of the table: `audit_msg_type_to_name` of libaudit 4.0.2 (Debian 13), asked for every number below 4000.
auditd writes a type that it has no name for as `UNKNOWN[1334]`. A name that is neither is taken for one that does
not end an event: such an event leaves by time instead.
"""

import re
from typing import Final

NUMBERS: Final[dict[bytes, int]] = {
    b"USER": 1005,
    b"LOGIN": 1006,
    b"USER_AUTH": 1100,
    b"USER_ACCT": 1101,
    b"USER_MGMT": 1102,
    b"CRED_ACQ": 1103,
    b"CRED_DISP": 1104,
    b"USER_START": 1105,
    b"USER_END": 1106,
    b"USER_AVC": 1107,
    b"USER_CHAUTHTOK": 1108,
    b"USER_ERR": 1109,
    b"CRED_REFR": 1110,
    b"USYS_CONFIG": 1111,
    b"USER_LOGIN": 1112,
    b"USER_LOGOUT": 1113,
    b"ADD_USER": 1114,
    b"DEL_USER": 1115,
    b"ADD_GROUP": 1116,
    b"DEL_GROUP": 1117,
    b"DAC_CHECK": 1118,
    b"CHGRP_ID": 1119,
    b"TEST": 1120,
    b"TRUSTED_APP": 1121,
    b"USER_SELINUX_ERR": 1122,
    b"USER_CMD": 1123,
    b"USER_TTY": 1124,
    b"CHUSER_ID": 1125,
    b"GRP_AUTH": 1126,
    b"SYSTEM_BOOT": 1127,
    b"SYSTEM_SHUTDOWN": 1128,
    b"SYSTEM_RUNLEVEL": 1129,
    b"SERVICE_START": 1130,
    b"SERVICE_STOP": 1131,
    b"GRP_MGMT": 1132,
    b"GRP_CHAUTHTOK": 1133,
    b"MAC_CHECK": 1134,
    b"ACCT_LOCK": 1135,
    b"ACCT_UNLOCK": 1136,
    b"USER_DEVICE": 1137,
    b"SOFTWARE_UPDATE": 1138,
    b"DAEMON_START": 1200,
    b"DAEMON_END": 1201,
    b"DAEMON_ABORT": 1202,
    b"DAEMON_CONFIG": 1203,
    b"DAEMON_ROTATE": 1205,
    b"DAEMON_RESUME": 1206,
    b"DAEMON_ACCEPT": 1207,
    b"DAEMON_CLOSE": 1208,
    b"DAEMON_ERR": 1209,
    b"SYSCALL": 1300,
    b"PATH": 1302,
    b"IPC": 1303,
    b"SOCKETCALL": 1304,
    b"CONFIG_CHANGE": 1305,
    b"SOCKADDR": 1306,
    b"CWD": 1307,
    b"EXECVE": 1309,
    b"IPC_SET_PERM": 1311,
    b"MQ_OPEN": 1312,
    b"MQ_SENDRECV": 1313,
    b"MQ_NOTIFY": 1314,
    b"MQ_GETSETATTR": 1315,
    b"KERNEL_OTHER": 1316,
    b"FD_PAIR": 1317,
    b"OBJ_PID": 1318,
    b"TTY": 1319,
    b"EOE": 1320,
    b"BPRM_FCAPS": 1321,
    b"CAPSET": 1322,
    b"MMAP": 1323,
    b"NETFILTER_PKT": 1324,
    b"NETFILTER_CFG": 1325,
    b"SECCOMP": 1326,
    b"PROCTITLE": 1327,
    b"FEATURE_CHANGE": 1328,
    b"KERN_MODULE": 1330,
    b"FANOTIFY": 1331,
    b"TIME_INJOFFSET": 1332,
    b"TIME_ADJNTPVAL": 1333,
    b"BPF": 1334,
    b"EVENT_LISTENER": 1335,
    b"URINGOP": 1336,
    b"OPENAT2": 1337,
    b"DM_CTRL": 1338,
    b"DM_EVENT": 1339,
    b"AVC": 1400,
    b"SELINUX_ERR": 1401,
    b"AVC_PATH": 1402,
    b"MAC_POLICY_LOAD": 1403,
    b"MAC_STATUS": 1404,
    b"MAC_CONFIG_CHANGE": 1405,
    b"MAC_UNLBL_ALLOW": 1406,
    b"MAC_CIPSOV4_ADD": 1407,
    b"MAC_CIPSOV4_DEL": 1408,
    b"MAC_MAP_ADD": 1409,
    b"MAC_MAP_DEL": 1410,
    b"MAC_IPSEC_ADDSA": 1411,
    b"MAC_IPSEC_DELSA": 1412,
    b"MAC_IPSEC_ADDSPD": 1413,
    b"MAC_IPSEC_DELSPD": 1414,
    b"MAC_IPSEC_EVENT": 1415,
    b"MAC_UNLBL_STCADD": 1416,
    b"MAC_UNLBL_STCDEL": 1417,
    b"MAC_CALIPSO_ADD": 1418,
    b"MAC_CALIPSO_DEL": 1419,
    b"APPARMOR": 1500,
    b"APPARMOR_AUDIT": 1501,
    b"APPARMOR_ALLOWED": 1502,
    b"APPARMOR_DENIED": 1503,
    b"APPARMOR_HINT": 1504,
    b"APPARMOR_STATUS": 1505,
    b"APPARMOR_ERROR": 1506,
    b"APPARMOR_KILL": 1507,
    b"ANOM_PROMISCUOUS": 1700,
    b"ANOM_ABEND": 1701,
    b"ANOM_LINK": 1702,
    b"ANOM_CREAT": 1703,
    b"INTEGRITY_DATA": 1800,
    b"INTEGRITY_METADATA": 1801,
    b"INTEGRITY_STATUS": 1802,
    b"INTEGRITY_HASH": 1803,
    b"INTEGRITY_PCR": 1804,
    b"INTEGRITY_RULE": 1805,
    b"INTEGRITY_EVM_XATTR": 1806,
    b"INTEGRITY_POLICY_RULE": 1807,
    b"KERNEL": 2000,
    b"ANOM_LOGIN_FAILURES": 2100,
    b"ANOM_LOGIN_TIME": 2101,
    b"ANOM_LOGIN_SESSIONS": 2102,
    b"ANOM_LOGIN_ACCT": 2103,
    b"ANOM_LOGIN_LOCATION": 2104,
    b"ANOM_MAX_DAC": 2105,
    b"ANOM_MAX_MAC": 2106,
    b"ANOM_AMTU_FAIL": 2107,
    b"ANOM_RBAC_FAIL": 2108,
    b"ANOM_RBAC_INTEGRITY_FAIL": 2109,
    b"ANOM_CRYPTO_FAIL": 2110,
    b"ANOM_ACCESS_FS": 2111,
    b"ANOM_EXEC": 2112,
    b"ANOM_MK_EXEC": 2113,
    b"ANOM_ADD_ACCT": 2114,
    b"ANOM_DEL_ACCT": 2115,
    b"ANOM_MOD_ACCT": 2116,
    b"ANOM_ROOT_TRANS": 2117,
    b"ANOM_LOGIN_SERVICE": 2118,
    b"ANOM_LOGIN_ROOT": 2119,
    b"ANOM_ORIGIN_FAILURES": 2120,
    b"ANOM_SESSION": 2121,
    b"RESP_ANOMALY": 2200,
    b"RESP_ALERT": 2201,
    b"RESP_KILL_PROC": 2202,
    b"RESP_TERM_ACCESS": 2203,
    b"RESP_ACCT_REMOTE": 2204,
    b"RESP_ACCT_LOCK_TIMED": 2205,
    b"RESP_ACCT_UNLOCK_TIMED": 2206,
    b"RESP_ACCT_LOCK": 2207,
    b"RESP_TERM_LOCK": 2208,
    b"RESP_SEBOOL": 2209,
    b"RESP_EXEC": 2210,
    b"RESP_SINGLE": 2211,
    b"RESP_HALT": 2212,
    b"RESP_ORIGIN_BLOCK": 2213,
    b"RESP_ORIGIN_BLOCK_TIMED": 2214,
    b"RESP_ORIGIN_UNBLOCK_TIMED": 2215,
    b"USER_ROLE_CHANGE": 2300,
    b"ROLE_ASSIGN": 2301,
    b"ROLE_REMOVE": 2302,
    b"LABEL_OVERRIDE": 2303,
    b"LABEL_LEVEL_CHANGE": 2304,
    b"USER_LABELED_EXPORT": 2305,
    b"USER_UNLABELED_EXPORT": 2306,
    b"DEV_ALLOC": 2307,
    b"DEV_DEALLOC": 2308,
    b"FS_RELABEL": 2309,
    b"USER_MAC_POLICY_LOAD": 2310,
    b"ROLE_MODIFY": 2311,
    b"USER_MAC_CONFIG_CHANGE": 2312,
    b"USER_MAC_STATUS": 2313,
    b"CRYPTO_TEST_USER": 2400,
    b"CRYPTO_PARAM_CHANGE_USER": 2401,
    b"CRYPTO_LOGIN": 2402,
    b"CRYPTO_LOGOUT": 2403,
    b"CRYPTO_KEY_USER": 2404,
    b"CRYPTO_FAILURE_USER": 2405,
    b"CRYPTO_REPLAY_USER": 2406,
    b"CRYPTO_SESSION": 2407,
    b"CRYPTO_IKE_SA": 2408,
    b"CRYPTO_IPSEC_SA": 2409,
    b"VIRT_CONTROL": 2500,
    b"VIRT_RESOURCE": 2501,
    b"VIRT_MACHINE_ID": 2502,
    b"VIRT_INTEGRITY_CHECK": 2503,
    b"VIRT_CREATE": 2504,
    b"VIRT_DESTROY": 2505,
    b"VIRT_MIGRATE_IN": 2506,
    b"VIRT_MIGRATE_OUT": 2507,
}

_LOGIN = NUMBERS[b"LOGIN"]
_FIRST_KERNEL_EVENT = 1300
_FIRST_USER_MESSAGE_2 = 2100
_ALONE = frozenset(NUMBERS[name] for name in (b"USER", b"EOE", b"PROCTITLE", b"KERNEL"))
_MAC_ALONE = range(NUMBERS[b"MAC_UNLBL_ALLOW"], NUMBERS[b"MAC_CALIPSO_DEL"] + 1)
_UNKNOWN = re.compile(rb"UNKNOWN\[([0-9]{1,10})\]")


def number(name: bytes) -> int | None:
    """Find a type's number, `UNKNOWN[1334]` too; None when there is no such type."""
    known = NUMBERS.get(name)
    if known is None and (unknown := _UNKNOWN.fullmatch(name)):
        return int(unknown[1])
    return known


_NAMES: Final = {known: name for name, known in NUMBERS.items()}


def name_of(number: int) -> bytes:
    """Write a type as auditd does: by its name, else as `UNKNOWN[1334]`."""
    return _NAMES.get(number) or b"UNKNOWN[%d]" % number


def _ends_event(number: int) -> bool:
    """`audit_is_last_record` of libaudit; SYSCALL, PATH, CWD, EXECVE and LOGIN do not end an event."""
    return (
        number in _ALONE
        or _LOGIN < number < _FIRST_KERNEL_EVENT
        or number >= _FIRST_USER_MESSAGE_2
        or number in _MAC_ALONE
    )


_ENDING = frozenset(name for name, known in NUMBERS.items() if _ends_event(known))


def completes_event(name: bytes) -> bool:
    """Whether a record of this type is the last of its event."""
    if name in _ENDING:
        return True
    if name in NUMBERS:
        return False
    unknown = number(name)
    return unknown is not None and _ends_event(unknown)
