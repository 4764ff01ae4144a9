"""Recipes: functions that return a ``glueball.engine.Recipe``; their keywords are options of ``glueball train``."""
