"""django-ca: certificate authorities whose revocation lists and OCSP keys are made by tasks."""

from __future__ import annotations

import pytest
from application import Application
from hosts import wait

#: Run with the app's own account and settings.
COUNT = """
import django
django.setup()
from django_ca.models import CertificateAuthority, CertificateRevocationList
print(json.dumps([CertificateAuthority.objects.count(), CertificateRevocationList.objects.count()]))
"""


@pytest.fixture(scope="module")
def authority(application: Application) -> Application:
    """The application with a certificate authority in it, as "Create admin user and set up CAs" has it."""
    if application.python(COUNT)[0] == 0:
        application.by_hand("manage.py init_ca --path-length=1 Root CN=Root")
    return application


def test_the_tables_are_there(application: Application) -> None:
    application.by_hand("manage.py migrate --check")


def test_a_new_authority_gets_its_lists_and_its_key_from_tasks(authority: Application) -> None:
    wait(lambda: authority.python(COUNT)[1] > 0, 60, "no revocation list was made")
    keys = f"find {authority.state}/files/ocsp -name '*.key' -user {authority.name} -perm 600"
    wait(lambda: authority.on(f"{keys} 2>/dev/null || true") != "", 60, "no key for OCSP was made")
    runs = authority.runs()["default"]
    assert runs["django_ca.tasks.generate_crl"] > 0
    assert runs["django_ca.tasks.generate_ocsp_key"] > 0


@pytest.mark.parametrize("task", ["generate_crls", "generate_ocsp_keys", "notify_watchers"])
def test_its_own_tasks_run_and_their_results_come_back(authority: Application, task: str) -> None:
    assert authority.took(f"django_ca.tasks.{task}") == {"default"}


def test_its_cache_is_one_for_all_processes_and_sees_nothing_else(application: Application) -> None:
    """The account of the cache may neither see the results of tasks nor wipe them away."""
    begin = "import django; django.setup(); from django.core.cache import cache"
    application.python(f"{begin}; cache.set('apps', 'seen'); print('null')")
    found, refused = application.python(
        f"{begin}\nimport redis\nfrom django.conf import settings\n"
        "client, told = redis.Redis.from_url(settings.CACHES['default']['LOCATION']), []\n"
        "for command in (('GET', 'djangoca:celery-task-meta-x'), ('FLUSHALL',), ('KEYS', '*')):\n"
        "    try:\n        client.execute_command(*command)\n"
        "    except redis.exceptions.NoPermissionError:\n        told.append(command[0])\n"
        "print(json.dumps([cache.get('apps'), told]))"
    )
    assert (found, refused) == ("seen", ["GET", "FLUSHALL", "KEYS"])


def test_its_own_schedule_is_kept(application: Application) -> None:
    application.wait_for_beat("acme-cleanup", "django_ca.tasks.acme_cleanup", 330)
