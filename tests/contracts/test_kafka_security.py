"""TLS and logins from end to end: settings as they stand in the environment, against a broker that wants all of them.

The broker speaks TLS with a certificate of a private authority, wants one of the client too, and a SASL login.
"""

import asyncio
import re
import time

import pytest
import trustme
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from cryptography.hazmat.primitives import serialization
from support.kafka import HEAP_MIB, PASSWORD, USER, forward, local_jars, unique
from support.spools import TestSpool, spool_hit

from consumers.log_reader.kafka import KafkaLogReader, log_ends
from consumers.log_reader.port import Registered
from infra.kafka_server.broker import KafkaServer
from ingest.log_writer.kafka import KafkaLogWriter
from schemas.errors import FatalError, RetryError
from schemas.settings import KIB, Settings

KEY_PASSWORD = "of the key"
WAIT_S_MAX = 30.0
SCRAM_LOGIN = "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config"


def key_and_chain(certificate, password=b""):
    """Return PEM text of a key as PKCS #8, the only form that Java reads, and of its chain."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    shut = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, shut)
    return pem + b"".join(one.bytes() for one in certificate.cert_chain_pems)


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """A broker, and the files of this client: what HITSTREAM_KAFKA_* says of them."""
    directory = tmp_path_factory.mktemp("kafka-tls")
    ours, strangers = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(directory / "ca.pem")
    strangers.cert_pem.write_to_path(directory / "another-ca.pem")
    (directory / "broker.pem").write_bytes(key_and_chain(ours.issue_cert("127.0.0.1")))
    (directory / "client.pem").write_bytes(key_and_chain(ours.issue_cert("client.example"), KEY_PASSWORD.encode()))
    overrides = {
        "listener.name.sasl_ssl.ssl.client.auth": "required",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(directory / "ca.pem"),
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        SCRAM_LOGIN: "org.apache.kafka.common.security.scram.ScramLoginModule required;",
    }
    with KafkaServer(
        directory / "broker",
        local_jars(),
        heap_mib=HEAP_MIB,
        users={USER: PASSWORD},
        certificate=directory / "broker.pem",
        overrides=overrides,
        tied=True,
        short_lived=True,
    ) as server:
        admin = AdminClient({"bootstrap.servers": server.bootstrap_servers})
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        alteration = UserScramCredentialUpsertion(USER, info, PASSWORD.encode())
        admin.alter_user_scram_credentials([alteration])[USER].result(WAIT_S_MAX)
        yield server, directory


@pytest.fixture
def settings_of(broker, tmp_path, monkeypatch):
    """Makes settings as a process has them, from the environment; what is named is different."""
    server, directory = broker
    environment = {
        "KAFKA_BOOTSTRAP_SERVERS": server.sasl_servers,
        "HITSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "HITSTREAM_KAFKA_SSL_CAFILE": str(directory / "ca.pem"),
        "HITSTREAM_KAFKA_SSL_CERTFILE": str(directory / "client.pem"),
        "HITSTREAM_KAFKA_SSL_KEY_PASSWORD": KEY_PASSWORD,
        "HITSTREAM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
        "HITSTREAM_KAFKA_SASL_USERNAME": USER,
        "HITSTREAM_KAFKA_SASL_PASSWORD": PASSWORD,
        "HITSTREAM_KAFKA_TOPIC": unique("hits"),
        "HITSTREAM_KAFKA_GROUP": unique("workers"),
        "HITSTREAM_KAFKA_REQUEST_TIMEOUT_S": "5",
        "HITSTREAM_DATA_DIR": str(tmp_path),
        "HITSTREAM_PARTITIONS": "1",
    }

    def of(**changes):
        for name, value in {**environment, **changes}.items():
            monkeypatch.setenv(name, value)
        return Settings()

    return of


def until(condition):
    deadline = time.monotonic() + WAIT_S_MAX
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return result


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_hits_pass_from_a_spool_to_a_worker_over_tls_with_a_login(settings_of, mechanism):
    settings = settings_of(HITSTREAM_KAFKA_SASL_MECHANISM=mechanism)
    spool = TestSpool(settings.data_dir, "00000000000000aa")
    sent = [spool_hit(spool.name, seq) for seq in range(5)]
    spool.append(5)
    asyncio.run(forward(settings))
    reader = KafkaLogReader(settings, heartbeat_s=0.2)
    try:
        (log,) = until(reader.assigned)
        records = []
        until(lambda: records.extend(log.fetch(10, 64 * KIB)) or len(records) == 5)
        assert [record.value for record in records] == sent
        log.register(Registered(records[0].offset, records[-1].offset, 1))
        assert log_ends(settings) == {0: records[-1].offset + 1}
    finally:
        reader.close()
        spool.die()


WRONG = {
    "a wrong password": (
        {"HITSTREAM_KAFKA_SASL_PASSWORD": "wrong"},
        r"it refuses the login \(.*[Aa]uthentication failed.*\): check HITSTREAM_KAFKA_SASL_USERNAME",
    ),
    "a wrong password, PLAIN": (
        {"HITSTREAM_KAFKA_SASL_PASSWORD": "wrong", "HITSTREAM_KAFKA_SASL_MECHANISM": "PLAIN"},
        r"it refuses the login \(.*[Aa]uthentication failed.*\): check HITSTREAM_KAFKA_SASL_USERNAME",
    ),
    "a mechanism that it does not take": (
        {"HITSTREAM_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256"},
        r"it refuses the login \(.*\): check HITSTREAM_KAFKA_SASL_USERNAME, _PASSWORD and _MECHANISM",
    ),
    "another authority": (
        {"HITSTREAM_KAFKA_SSL_CAFILE": "another-ca.pem"},
        r"its certificate is not trusted \(.*\): check HITSTREAM_KAFKA_SSL_CAFILE",
    ),
    "the system's authorities": (
        {"HITSTREAM_KAFKA_SSL_CAFILE": ""},
        r"its certificate is not trusted \(.*\): check HITSTREAM_KAFKA_SSL_CAFILE",
    ),
    "no certificate of ours": ({"HITSTREAM_KAFKA_SSL_CERTFILE": ""}, "HITSTREAM_KAFKA_SSL_CERTFILE"),
    "no TLS": ({"HITSTREAM_KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "HITSTREAM_KAFKA_SECURITY_PROTOCOL"),
}


def test_a_key_without_its_password_is_refused_at_the_start(settings_of):
    """And nobody is asked for it: there is no terminal."""
    with pytest.raises(FatalError, match="the files that HITSTREAM_KAFKA_SSL_"):
        KafkaLogWriter.open(settings_of(HITSTREAM_KAFKA_SSL_KEY_PASSWORD=""))


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_by_the_forwarders_writer_and_the_workers_reader(broker, settings_of, wrong):
    changes, words = WRONG[wrong]
    cafile = changes.get("HITSTREAM_KAFKA_SSL_CAFILE")
    if cafile:
        changes = {**changes, "HITSTREAM_KAFKA_SSL_CAFILE": str(broker[1] / cafile)}
    settings = settings_of(**changes)
    with pytest.raises(RetryError, match=words):
        asyncio.run(KafkaLogWriter.open(settings).append({}))
    reader = KafkaLogReader(settings, heartbeat_s=0.2)
    try:
        until(lambda: reader.trouble != "joining the consumer group")
        assert re.search(words, reader.trouble)
        assert reader.assigned() == []
    finally:
        reader.close()
