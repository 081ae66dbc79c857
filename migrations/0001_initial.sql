CREATE TABLE `app_revisions` (
	`app_id` text NOT NULL,
	`revision` integer NOT NULL,
	`spec` text NOT NULL,
	`created_by` text NOT NULL,
	`created_ms` integer NOT NULL,
	`message` text NOT NULL,
	`rev` integer NOT NULL,
	PRIMARY KEY(`app_id`, `revision`)
);

--> statement-breakpoint
CREATE TABLE `apps` (
	`id` text PRIMARY KEY NOT NULL,
	`namespace` text NOT NULL,
	`name` text NOT NULL,
	`revision` integer NOT NULL,
	`deleting` integer NOT NULL,
	`delete_volumes` integer NOT NULL,
	`locked_by` text,
	`lock_message` text NOT NULL,
	`locked_ms` integer,
	`created_ms` integer NOT NULL,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE UNIQUE INDEX `apps_name` ON `apps` (`namespace`,`name`);
--> statement-breakpoint
CREATE INDEX `apps_rev` ON `apps` (`rev`);
--> statement-breakpoint
CREATE TABLE `audit` (
	`rev` integer PRIMARY KEY NOT NULL,
	`at_ms` integer NOT NULL,
	`actor` text NOT NULL,
	`verb` text NOT NULL,
	`namespace` text,
	`object` text NOT NULL,
	`detail` text NOT NULL,
	`hash` text
);

--> statement-breakpoint
CREATE TABLE `audit_head` (
	`id` integer PRIMARY KEY NOT NULL,
	`up_to_rev` integer NOT NULL,
	`row_count` integer NOT NULL,
	`hash` text NOT NULL,
	`signed` text NOT NULL
);

--> statement-breakpoint
CREATE TABLE `bodies` (
	`hash` text PRIMARY KEY NOT NULL,
	`kind` text NOT NULL,
	`body` text NOT NULL,
	`created_ms` integer NOT NULL
);

--> statement-breakpoint
CREATE TABLE `cluster` (
	`id` integer PRIMARY KEY NOT NULL,
	`cluster_id` text NOT NULL,
	`era` text NOT NULL,
	`rev` integer NOT NULL,
	`plan_rev` integer NOT NULL,
	`observed` integer NOT NULL,
	`commit_ms` integer NOT NULL,
	`feed_floor` integer NOT NULL,
	`clock_ms` integer NOT NULL,
	`wall_ms` integer NOT NULL,
	`created_ms` integer NOT NULL,
	`root_key` text NOT NULL,
	`key_set` text NOT NULL,
	`key_set_version` integer NOT NULL
);

--> statement-breakpoint
CREATE TABLE `deployments` (
	`id` text PRIMARY KEY NOT NULL,
	`app_id` text NOT NULL,
	`revision` integer NOT NULL,
	`from_revision` integer,
	`kind` text NOT NULL,
	`state` text NOT NULL,
	`message` text NOT NULL,
	`created_by` text NOT NULL,
	`started_ms` integer NOT NULL,
	`finished_ms` integer,
	`rollback_to` integer,
	`halted` integer NOT NULL,
	`paused_by` text,
	`resumed_ms` integer NOT NULL,
	`canaries_healthy` integer NOT NULL,
	`promoted` integer NOT NULL,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE INDEX `deployments_app` ON `deployments` (`app_id`);
--> statement-breakpoint
CREATE INDEX `deployments_rev` ON `deployments` (`rev`);
--> statement-breakpoint
CREATE INDEX `deployments_state` ON `deployments` (`state`);
--> statement-breakpoint
CREATE TABLE `ended_replicas` (
	`id` text PRIMARY KEY NOT NULL,
	`app_id` text NOT NULL,
	`service` text NOT NULL,
	`slot` text NOT NULL,
	`node_id` text NOT NULL,
	`revision` integer NOT NULL,
	`state` text NOT NULL,
	`reason` text NOT NULL,
	`message` text NOT NULL,
	`exit_code` integer,
	`log_tail` text NOT NULL,
	`ended_ms` integer NOT NULL,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE INDEX `ended_slot` ON `ended_replicas` (`app_id`,`service`,`slot`);
--> statement-breakpoint
CREATE TABLE `events` (
	`id` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`namespace` text,
	`object_kind` text NOT NULL,
	`object_id` text NOT NULL,
	`app` text,
	`type` text NOT NULL,
	`level` text NOT NULL,
	`message` text NOT NULL,
	`at_ms` integer NOT NULL,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE INDEX `events_object` ON `events` (`object_kind`,`object_id`);
--> statement-breakpoint
CREATE INDEX `events_namespace` ON `events` (`namespace`,`id`);
--> statement-breakpoint
CREATE INDEX `events_rev` ON `events` (`rev`);
--> statement-breakpoint
CREATE TABLE `explanations` (
	`app_id` text NOT NULL,
	`service` text NOT NULL,
	`body` text NOT NULL,
	`at_ms` integer NOT NULL,
	PRIMARY KEY(`app_id`, `service`)
);

--> statement-breakpoint
CREATE TABLE `images` (
	`app_id` text NOT NULL,
	`revision` integer NOT NULL,
	`reference` text NOT NULL,
	`digest` text,
	`image_id` text,
	`resolver` text,
	`rev` integer NOT NULL,
	PRIMARY KEY(`app_id`, `revision`, `reference`)
);

--> statement-breakpoint
CREATE INDEX `images_rev` ON `images` (`rev`);
--> statement-breakpoint
CREATE TABLE `join_tokens` (
	`id` text PRIMARY KEY NOT NULL,
	`public_key` text NOT NULL,
	`site` text NOT NULL,
	`labels` text NOT NULL,
	`name_pattern` text,
	`needs_approval` integer NOT NULL,
	`uses_max` integer NOT NULL,
	`uses` integer NOT NULL,
	`created_ms` integer NOT NULL,
	`expires_ms` integer NOT NULL,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE TABLE `namespaces` (
	`name` text PRIMARY KEY NOT NULL,
	`created_ms` integer NOT NULL,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE TABLE `node_reports` (
	`node_id` text PRIMARY KEY NOT NULL,
	`session` integer NOT NULL,
	`seq` integer NOT NULL,
	`generation` integer NOT NULL,
	`complete` integer NOT NULL,
	`engine_reachable` integer NOT NULL,
	`engine_message` text NOT NULL,
	`as_of_ms` integer NOT NULL,
	`mark` integer NOT NULL
);

--> statement-breakpoint
CREATE INDEX `node_reports_mark` ON `node_reports` (`mark`);
--> statement-breakpoint
CREATE TABLE `nodes` (
	`id` text PRIMARY KEY NOT NULL,
	`name` text NOT NULL,
	`site` text NOT NULL,
	`thumbprint` text NOT NULL,
	`sign_key` text NOT NULL,
	`seal_key` text NOT NULL,
	`join_token` text NOT NULL,
	`admission` text NOT NULL,
	`labels` text NOT NULL,
	`taints` text NOT NULL,
	`availability` text NOT NULL,
	`status` text NOT NULL,
	`status_ms` integer NOT NULL,
	`facts` text NOT NULL,
	`session` integer NOT NULL,
	`instance` text NOT NULL,
	`boot_id` text NOT NULL,
	`hardware` text NOT NULL,
	`instance_changes_ms` text NOT NULL,
	`quarantined` integer NOT NULL,
	`generation` integer NOT NULL,
	`enrolled_ms` integer NOT NULL,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE UNIQUE INDEX `nodes_name_unique` ON `nodes` (`name`);
--> statement-breakpoint
CREATE UNIQUE INDEX `nodes_thumbprint_unique` ON `nodes` (`thumbprint`);
--> statement-breakpoint
CREATE INDEX `nodes_rev` ON `nodes` (`rev`);
--> statement-breakpoint
CREATE INDEX `nodes_site` ON `nodes` (`site`);
--> statement-breakpoint
CREATE TABLE `observations` (
	`replica` text PRIMARY KEY NOT NULL,
	`node_id` text NOT NULL,
	`session` integer NOT NULL,
	`seq` integer NOT NULL,
	`state` text NOT NULL,
	`reason` text NOT NULL,
	`message` text NOT NULL,
	`container_id` text,
	`health` text NOT NULL,
	`ready_since_ms` integer,
	`restarts` integer NOT NULL,
	`exit_code` integer,
	`oom_killed` integer NOT NULL,
	`ports` text NOT NULL,
	`pull` text,
	`log_tail` text NOT NULL,
	`as_of_ms` integer NOT NULL,
	`mark` integer NOT NULL
);

--> statement-breakpoint
CREATE INDEX `observations_mark` ON `observations` (`mark`);
--> statement-breakpoint
CREATE TABLE `ops` (
	`op_id` text PRIMARY KEY NOT NULL,
	`at_ms` integer NOT NULL,
	`rev` integer NOT NULL,
	`result` text NOT NULL
);

--> statement-breakpoint
CREATE INDEX `ops_at` ON `ops` (`at_ms`);
--> statement-breakpoint
CREATE TABLE `registries` (
	`namespace` text NOT NULL,
	`registry` text NOT NULL,
	`username` text NOT NULL,
	`sealed` text NOT NULL,
	`kid` text NOT NULL,
	`created_ms` integer NOT NULL,
	`rev` integer NOT NULL,
	PRIMARY KEY(`namespace`, `registry`)
);

--> statement-breakpoint
CREATE TABLE `removed_nodes` (
	`thumbprint` text PRIMARY KEY NOT NULL,
	`id` text NOT NULL,
	`name` text NOT NULL,
	`removed_ms` integer NOT NULL
);

--> statement-breakpoint
CREATE TABLE `replicas` (
	`id` text PRIMARY KEY NOT NULL,
	`app_id` text NOT NULL,
	`service` text NOT NULL,
	`slot` text NOT NULL,
	`node_id` text NOT NULL,
	`spec` text NOT NULL,
	`revision` integer NOT NULL,
	`desired` text NOT NULL,
	`reason` text NOT NULL,
	`assigned_ms` integer NOT NULL,
	`attempt` integer NOT NULL,
	`stopped_ms` integer,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE INDEX `replicas_node` ON `replicas` (`node_id`);
--> statement-breakpoint
CREATE INDEX `replicas_app` ON `replicas` (`app_id`);
--> statement-breakpoint
CREATE INDEX `replicas_rev` ON `replicas` (`rev`);
--> statement-breakpoint
CREATE TABLE `services` (
	`app_id` text NOT NULL,
	`name` text NOT NULL,
	`mode` text NOT NULL,
	`replicas` integer NOT NULL,
	`spec` text NOT NULL,
	`revision` integer NOT NULL,
	`reservation` text NOT NULL,
	`planning` text NOT NULL,
	`removed` integer NOT NULL,
	`rev` integer NOT NULL,
	PRIMARY KEY(`app_id`, `name`)
);

--> statement-breakpoint
CREATE INDEX `services_rev` ON `services` (`rev`);
--> statement-breakpoint
CREATE TABLE `sites` (
	`name` text PRIMARY KEY NOT NULL,
	`labels` text NOT NULL,
	`created_ms` integer NOT NULL,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE TABLE `tokens` (
	`id` text PRIMARY KEY NOT NULL,
	`hash` text NOT NULL,
	`name` text NOT NULL,
	`role` text NOT NULL,
	`namespace` text,
	`created_ms` integer NOT NULL,
	`expires_ms` integer,
	`rev` integer NOT NULL
);

--> statement-breakpoint
CREATE UNIQUE INDEX `tokens_hash_unique` ON `tokens` (`hash`);
--> statement-breakpoint
CREATE TABLE `tombstones` (
	`kind` text NOT NULL,
	`key` text NOT NULL,
	`rev` integer NOT NULL,
	`at_ms` integer NOT NULL,
	PRIMARY KEY(`kind`, `key`)
);

--> statement-breakpoint
CREATE INDEX `tombstones_rev` ON `tombstones` (`rev`);
--> statement-breakpoint
CREATE TABLE `volume_drops` (
	`node_id` text NOT NULL,
	`engine_name` text NOT NULL,
	`rev` integer NOT NULL,
	PRIMARY KEY(`node_id`, `engine_name`)
);

--> statement-breakpoint
CREATE INDEX `volume_drops_rev` ON `volume_drops` (`rev`);
--> statement-breakpoint
CREATE TABLE `volumes` (
	`namespace` text NOT NULL,
	`app` text NOT NULL,
	`service` text NOT NULL,
	`slot` text NOT NULL,
	`volume` text NOT NULL,
	`node_id` text NOT NULL,
	`engine_name` text NOT NULL,
	`rev` integer NOT NULL,
	PRIMARY KEY(`namespace`, `app`, `service`, `slot`, `volume`)
);

--> statement-breakpoint
CREATE INDEX `volumes_node` ON `volumes` (`node_id`);
--> statement-breakpoint
CREATE INDEX `volumes_rev` ON `volumes` (`rev`);
