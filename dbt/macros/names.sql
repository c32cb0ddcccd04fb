{# The live lake has one namespace a layer; a person's own tables all stand in one namespace. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name if custom_schema_name and target.name == "live" else target.schema }}
{%- endmacro %}

{# Replacing an Iceberg table keeps its tags; dropping it would take every night's tag with it. `create table` in
   dbt-spark is `create or replace` for Iceberg, so nothing needs to be dropped first. #}
{% macro spark__drop_relation(relation) -%}
    {% if relation.type == "view" %}
        {%- call statement("drop_relation", auto_begin=False) -%}
            drop view if exists {{ relation }}
        {%- endcall -%}
    {% endif %}
{%- endmacro %}
