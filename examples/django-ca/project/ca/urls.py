"""Where CRLs, OCSP and ACME are served, and the administration."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [path("ca/", include("django_ca.urls")), path("admin/", admin.site.urls)]
