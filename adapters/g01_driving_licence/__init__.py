"""Driving licences (Bộ Công an, Cục Cảnh sát giao thông, G01.08), declared over SOAP."""
