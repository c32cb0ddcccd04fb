-- One database a store, so that each can move to a server of its own.
create database airflow;
create database ledger;
create database events;
create database lake;
create database feast;
create database mlflow;
