"""Passwords and vendors' own configuration leave what is kept of operations."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

# As they were told of when this was written. OCPP 1.6, chapter 9.
TOLD_KEYS = [
    "allowofflinetxforunknownid",
    "authorizationcacheenabled",
    "authorizeremotetxrequests",
    "blinkrepeat",
    "clockaligneddatainterval",
    "connectiontimeout",
    "connectorphaserotation",
    "connectorphaserotationmaxlength",
    "getconfigurationmaxkeys",
    "heartbeatinterval",
    "lightintensity",
    "localauthorizeoffline",
    "localpreauthorize",
    "maxenergyoninvalidid",
    "metervaluesaligneddata",
    "metervaluesaligneddatamaxlength",
    "metervaluessampleddata",
    "metervaluessampleddatamaxlength",
    "metervaluesampleinterval",
    "minimumstatusduration",
    "numberofconnectors",
    "resetretries",
    "stoptransactiononevsidedisconnect",
    "stoptransactiononinvalidid",
    "stoptxnaligneddata",
    "stoptxnaligneddatamaxlength",
    "stoptxnsampleddata",
    "stoptxnsampleddatamaxlength",
    "supportedfeatureprofiles",
    "supportedfeatureprofilesmaxlength",
    "transactionmessageattempts",
    "transactionmessageretryinterval",
    "unlockconnectoronevsidedisconnect",
    "websocketpinginterval",
    "localauthlistenabled",
    "localauthlistmaxlength",
    "sendlocallistmaxlength",
    "reserveconnectorzerosupported",
    "chargeprofilemaxstacklevel",
    "chargingscheduleallowedchargingrateunit",
    "chargingschedulemaxperiods",
    "connectorswitch3to1phasesupported",
    "maxchargingprofilesinstalled",
]
TOLD_PARAMETERS = [
    "availType",
    "chargingProfilePk",
    "commaSeparatedCustomConfKeys",
    "confKey",
    "confKeyList",
    "connectorId",
    "customConfKey",
    "idTag",
    "keyType",
    "resetType",
    "transactionId",
    "triggerMessage",
]


def upgrade() -> None:
    # Where a parameter is masked, what SteVe or the charger said of it goes with it.
    parameters = sa.text("""
        UPDATE sync.charger_operation SET
            parameters = (
                SELECT jsonb_object_agg(name, CASE WHEN name = ANY (:parameters) THEN value ELSE '"•••"' END)
                FROM jsonb_each(parameters) AS one (name, value)
            ),
            problem = CASE WHEN problem IS NOT NULL THEN 'What it said may quote a secret, and is left out.' END
        WHERE EXISTS (
            SELECT FROM jsonb_object_keys(parameters) AS name
            WHERE name <> ALL (:parameters) AND NOT (name = 'value' AND EXISTS (
                SELECT FROM (VALUES (parameters ->> 'confKey'), (parameters ->> 'customConfKey')) AS named (key)
                WHERE key <> '' HAVING bool_and(lower(trim(key)) = ANY (:keys))
            ))
        )
    """)
    op.execute(parameters.bindparams(parameters=TOLD_PARAMETERS, keys=TOLD_KEYS))
    response = sa.text("""
        UPDATE sync.charger_operation SET response = jsonb_set(response, '{configurationKeys}', (
            SELECT jsonb_agg(
                CASE WHEN lower(trim(one ->> 'key')) = ANY (:keys) OR one ->> 'value' IS NULL THEN one
                ELSE one || '{"value": "•••"}' END ORDER BY place
            )
            FROM jsonb_array_elements(response -> 'configurationKeys') WITH ORDINALITY AS each (one, place)
        ))
        WHERE jsonb_typeof(response -> 'configurationKeys') = 'array'
            AND response -> 'configurationKeys' <> '[]'
    """)
    op.execute(response.bindparams(keys=TOLD_KEYS))


def downgrade() -> None:
    """They stay masked: nobody knows the secrets any more."""
