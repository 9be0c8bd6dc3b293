/* net/mqtt_worker.h - the one thread of the process that calls Paho.
 *
 * Paho's calls wait for its mutex, which it holds while it resolves names and
 * talks to proxies; they are made here, so that no loop waits.  The thread
 * starts with the first user, and ends, Paho's threads with it, when there was
 * none for MQTT_WORKER_LINGER_S.
 */
#ifndef NET_MQTT_WORKER_H
#define NET_MQTT_WORKER_H

#define MQTT_WORKER_LINGER_S 5

/* Embedded in its owner. */
struct mqtt_job {
  struct mqtt_job *next;
  void (*fn)(struct mqtt_job *job);
};

/* One more user.  Any thread.  DSTREAM_ESYSTEM: no thread. */
int mqtt_worker_enter(void);

/* Has job->fn(job) called once on the worker's thread, in the order of these
 * calls.  Any thread, and with Paho's mutex held too: the worker's own lock is
 * never held while it calls. */
void mqtt_worker_add(struct mqtt_job *job);

/* One user less.  Any thread. */
void mqtt_worker_leave(void);

#endif
